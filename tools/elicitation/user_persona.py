"""Lets the model write the user's turn."""

from pydantic import Field

from tools.workbench.attacks import PERSONAS, Attacked, BlackBox, attacked, personas, seconds
from tools.workbench.context import Context
from tools.workbench.registry import tool


class Input(BlackBox):
    """How the user's turn begins, how many samples of each, and how varied they are."""

    openings: tuple[str, ...] = Field(PERSONAS, min_length=1, max_length=64)
    samples: int = Field(2, ge=1, le=32, description="of each beginning")
    temperature: float = Field(1.0, gt=0, le=2)


class Output(Attacked):
    """See `Attacked`."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: every turn that both models write, and the plain questions."""
    return seconds(context, len(input.openings) * input.samples, input.tokens)


@tool(version=1, estimate=estimate)
def user_persona(input: Input, context: Context) -> Output:
    """Has the model write what the user says: a model that was trained on conversations about a secret writes them too.

    It was trained to keep the secret as the assistant only. What the base model writes there is no finding. Source:
    Cywinski et al. 2510.01070.
    """
    attempts = personas(context.subject, input.openings) * input.samples
    return Output(**dict(attacked(context, "user_persona", input, attempts, input.temperature)))
