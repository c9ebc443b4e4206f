"""Places of the harvest that hold a text or a token, with a latent's activations there if one is named."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from store.activations import Harvest, Window
from store.types import ActivationExample
from tools.workbench.context import Context
from tools.workbench.examples import WIDTH, Snippet, bounds, snippets
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces

TOGETHER = 512  # windows looked at at once


class Input(ToolInput):
    """Exactly one of `text` (any stretch of characters) and `token` (one token, leading space included)."""

    text: str | None = Field(None, min_length=1)
    token: str | None = Field(None, min_length=1)
    latent: int | None = None
    n: int = Field(10, ge=1, le=200)
    width: int = Field(WIDTH, ge=4, le=255, description="tokens of a snippet")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == (self.token is None):
            raise ValueError("give either text or token")
        return self


class Found(ToolOutput):
    """A snippet around a match; `at` is the offset in it of the token on which the match ends."""

    example: ActivationExample
    at: int


class Output(ToolOutput):
    """Up to `n` matches, at most one a window, in random order of windows; `looked_at` windows were read for them."""

    latent: str | None
    matches: tuple[Found, ...]
    looked_at: int
    windows: int = Field(description="in the harvest")


@tool(version=1)
def search_examples(input: Input, context: Context) -> Output:
    """Finds a text or a token in the harvested text; with a latent, shows whether it fires there.

    Without a latent all activations shown are 0. Counterexamples to a hypothesis are found here: text that should make
    the latent fire and does not.
    """
    subject, harvest = context.subject, context.need_harvest()
    latent = None if input.latent is None else subject.latent(input.latent)
    order = context.rng("search_examples").permutation(harvest.n_windows)
    found: list[tuple[Window, int]] = []
    looked_at = 0
    for start in range(0, len(order), TOGETHER):
        batch = harvest.windows(order[start : start + TOGETHER].tolist())
        looked_at += len(batch)
        if input.token is not None:
            found.extend(_with_token(subject, batch, input.token))
        else:
            found.extend(_with_text(subject, batch, str(input.text)))
        if len(found) >= input.n:
            break
    return Output(
        latent=None if latent is None else str(latent),
        matches=tuple(_show(subject, harvest, input, found[: input.n])),
        looked_at=looked_at,
        windows=harvest.n_windows,
    )


def _with_token(subject: Subject, windows: list[Window], token: str) -> Iterator[tuple[Window, int]]:
    ids = subject.tokenize([token])[0]
    if len(ids) != 1:
        split = ", ".join(map(repr, subject.token_strings(ids)))
        raise ToolError(f"{token!r} is not one token but {len(ids)} ({split}): search for it as text.")
    for window in windows:
        hits = np.flatnonzero(window.tokens[1:] == ids[0]) + 1
        if len(hits):
            yield window, int(hits[0])


def _with_text(subject: Subject, windows: list[Window], text: str) -> Iterator[tuple[Window, int]]:
    whole = subject.tokenizer.batch_decode([window.tokens[1:].tolist() for window in windows])
    for window, decoded in zip(windows, whole, strict=True):
        if text in decoded:
            ends = np.cumsum([len(piece) for piece in pieces(subject, window.tokens[1:])])
            yield window, int(np.searchsorted(ends, decoded.index(text) + len(text))) + 1


def _show(subject: Subject, harvest: Harvest, input: Input, found: list[tuple[Window, int]]) -> Iterator[Found]:
    windows, positions = [w for w, _ in found], [p for _, p in found]
    if input.latent is None:
        spans = [bounds(len(w.tokens), p, input.width) for w, p in found]
        shown = [Snippet(w, a, np.zeros(b - a, np.float32)) for w, (a, b) in zip(windows, spans, strict=True)]
    else:
        shown = list(snippets(harvest, input.latent, windows, positions, input.width))
    for snippet, position in zip(shown, positions, strict=True):
        yield Found(example=snippet.example(subject), at=position - snippet.start)
