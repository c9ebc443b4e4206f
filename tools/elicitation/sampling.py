"""Asks again and again: at a high temperature, after examples of others who answered, after a text put in front."""

from typing import Annotated

from pydantic import Field

from tools.workbench.attacks import SHOTS, Attacked, BlackBox, asked_after, attacked, seconds
from tools.workbench.context import Context
from tools.workbench.registry import tool


class Input(BlackBox):
    """How often each question is asked, at which temperature, after how many examples and which text."""

    samples: int = Field(2, ge=1, le=32, description="of each of eight questions")
    temperature: float = Field(1.0, gt=0, le=2)
    shots: int = Field(0, ge=0, le=len(SHOTS), description="earlier turns in which somebody asked and was answered")
    prefix: Annotated[str, Field(max_length=2000)] = Field("", description="text in front of every question")


class Output(Attacked):
    """See `Attacked`."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: every reply of both models, and those to plain questions."""
    return seconds(context, 8 * input.samples * (1 + input.shots // 2), input.tokens)


@tool(version=1, estimate=estimate)
def sampling(input: Input, context: Context) -> Output:
    """Asks the same many times and takes what the model says: by chance, by example, or after a text of your choice.

    A secret kept by a habit slips out at a high temperature, or where earlier turns answered such questions
    (many-shot). The base model is asked the same. Source: Cywinski et al. 2510.01070.
    """
    attempts = asked_after(context.subject, input.topic, input.shots, input.prefix) * input.samples
    return Output(**dict(attacked(context, "sampling", input, attempts, input.temperature)))
