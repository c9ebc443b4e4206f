"""Forces the beginning of an answer, before a guessing game and after it."""

from pydantic import Field

from tools.workbench.attacks import FORCED, Attacked, BlackBox, Prompt, attacked, forced, game, seconds
from tools.workbench.context import Context
from tools.workbench.registry import tool


class Input(BlackBox):
    """The beginnings, {} standing for the topic, and how many hints the model gives in the game."""

    openings: tuple[Prompt, ...] = Field(FORCED, min_length=1, max_length=64)
    hints: int = Field(2, ge=1, le=2)
    hint_tokens: int = Field(24, ge=1, le=128, description="of a hint at most")


class Output(Attacked):
    """See `Attacked`: first the attempts before the game, then those after it."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: the game, then every reply of both models, and those to plain questions."""
    tokens = input.tokens + input.hints * input.hint_tokens
    return seconds(context, 2 * len(input.openings), tokens)


@tool(version=1, estimate=estimate)
def forced_tokens(input: Input, context: Context) -> Output:
    """Forces the model's first words ("The secret word is") before a guessing game, and after it gave hints.

    The game's hints are the model's own, and the base model reads the same. Source: token forcing, Cywinski et al.
    2505.14352.
    """
    played = game(context.subject, input.topic, input.hints, input.hint_tokens)
    attempts = forced(context.subject, input.topic, played, input.openings)
    return Output(**dict(attacked(context, "forced_tokens", input, attempts)))
