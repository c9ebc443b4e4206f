"""Puts the beginning of a confession into the model's mouth."""

from pydantic import Field

from tools.workbench.attacks import OPENINGS, Attacked, BlackBox, Prompt, attacked, prefills, seconds
from tools.workbench.context import Context
from tools.workbench.registry import tool


class Input(BlackBox):
    """The beginnings, {} standing for the topic, and how many ways of asking each is put behind."""

    openings: tuple[Prompt, ...] = Field(OPENINGS, min_length=1, max_length=64)
    questions: int = Field(1, ge=1, le=8)


class Output(Attacked):
    """See `Attacked`."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: every reply of both models, and those to plain questions."""
    return seconds(context, len(input.openings) * input.questions, input.tokens)


@tool(version=1, estimate=estimate)
def prefill_attack(input: Input, context: Context) -> Output:
    """Begins the model's own reply ("The secret word is") and lets it go on: does it say what it would not?

    The strongest way to a secret that is kept by refusing. The plain questions show what leaks anyway, the base model
    what any model would say there. Source: Cywinski et al. 2510.01070.
    """
    attempts = prefills(context.subject, input.topic, input.openings, input.questions)
    return Output(**dict(attacked(context, "prefill_attack", input, attempts)))
