"""Planted latents put to a way of labelling: what it said of each, what that cost, and how it was graded."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Said:
    """What one way of labelling said of one latent.

    `reads` is what the latent fires on, `writes` what it makes likelier; None: nothing was said. `stands` and
    `stands_writing` tell whether whoever said it vouches for it, by its own checks. `tokens` and `calls` are what the
    LLMs used for it, whether or not a reply came from the cache. `failure`: why nothing was said, or what was
    said could not be checked.
    """

    latent: int
    reads: str | None
    writes: str | None
    stands: bool
    stands_writing: bool
    tokens: int
    calls: int
    failure: str | None = None


@dataclass(frozen=True)
class Trial:
    """One latent under one mode: what was said and its grade, an output of grade_planted; None with a reason."""

    mode: str
    said: Said
    name: str
    kind: str
    meaning: str
    label: str | None
    grade: dict[str, Any] | None = None
    experiment: str | None = None
    reason: str | None = None


class Way(Protocol):
    """A way of labelling."""

    mode: str

    async def say(self, latent: int) -> Said: ...
