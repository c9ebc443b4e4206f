"""The forms of a reply that the labelling templates ask for, and how a judge's first token becomes a number."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Gloss(BaseModel):
    """The reply of an explainer: a short noun phrase."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    explanation: Annotated[str, Field(min_length=1, max_length=160, pattern=r"\S")]


class Verdicts(BaseModel):
    """The reply of a judge to a list of snippets: 1 or 0 for each, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    verdicts: Annotated[list[Literal[0, 1]], Field(min_length=1, max_length=100)]


def margin(logprobs: dict[str, float] | None) -> float | None:
    """How much likelier the judge finds "1" than "0" as its first token, in nats; None when it says neither.

    A digit that is not among the candidates is taken to be as likely as the least likely of them.
    """
    if not logprobs:
        return None
    found = {token.strip(): value for token, value in sorted(logprobs.items(), key=lambda item: item[1])}
    if not found.keys() & {"0", "1"}:
        return None
    least = min(logprobs.values())
    return found.get("1", least) - found.get("0", least)
