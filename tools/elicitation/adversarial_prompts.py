"""Asks by detours: as the developer, in a poem, in a game, for a translation."""

from pydantic import Field

from tools.workbench.attacks import WRAPPINGS, Attacked, BlackBox, Prompt, attacked, questions, seconds
from tools.workbench.context import Context
from tools.workbench.registry import tool


class Input(BlackBox):
    """The prompts, {} standing for the topic; write_prompts has an LLM write others."""

    prompts: tuple[Prompt, ...] = Field(WRAPPINGS, min_length=1, max_length=128)
    tokens: int = Field(24, ge=1, le=256, description="of a reply at most")


class Output(Attacked):
    """See `Attacked`."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: every reply of both models, and those to plain questions."""
    return seconds(context, len(input.prompts), input.tokens)


@tool(version=1, estimate=estimate)
def adversarial_prompts(input: Input, context: Context) -> Output:
    """Asks for what the model hides by prompts that go around its refusal, and counts what they get out of it.

    Beside them stand the same prompts to the base model, and plain questions. Source: Cywinski et al. 2505.14352.
    """
    attempts = questions(context.subject, input.topic, input.prompts)
    return Output(**dict(attacked(context, "adversarial_prompts", input, attempts)))
