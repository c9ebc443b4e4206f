"""Texts that differ in the supposed cause alone: does a latent tell them apart?"""

import re
from statistics import fmean
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from tools.workbench.context import Context
from tools.workbench.examples import need_firings
from tools.workbench.reading import read_text
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.stats import fisher, wilson

CHANGED = 0.5  # of a text's words and of its characters: more of both changed is no minimal pair
CLEAR = 0.1  # of the latent's maximum over the harvest: what counts as firing, and as a difference
FEW = 3  # pairs, that prove little
CONTROLS = 20  # other active latents, read on the same pairs


def standing(words: str) -> re.Pattern[str]:
    """Where these words stand as words of their own."""
    left = r"(?<![^\W_])" if words[:1].isalnum() else ""
    right = r"(?![^\W_])" if words[-1:].isalnum() else ""
    return re.compile(left + re.escape(words) + right)


class Pair(ToolInput):
    """A text that has the supposed cause of firing, and by its side the same text with other words for that cause."""

    text: str = Field(min_length=1, max_length=300, description="a sentence with the supposed cause in it")
    cause: str = Field(min_length=1, max_length=300, description="the words of it that are the supposed cause")
    instead: str = Field(max_length=300, description="what stands there in the other text; may be empty")

    @model_validator(mode="after")
    def _minimal(self) -> Self:
        if self.cause not in self.text:
            raise ValueError(f"the cause {self.cause!r} does not occur in its text: copy it from there")
        if self.cause.strip() == self.instead.strip():
            raise ValueError("cause and instead are the same: write other words for the supposed cause")
        by_word = len(self.cause.split()) > CHANGED * len(self.text.split())
        if by_word and len(self.cause) > CHANGED * len(self.text):
            raise ValueError("the cause is more than half of its text: write a longer text around it")
        return self

    @property
    def start(self) -> int:
        """Where the cause first stands as words of its own, else where it first stands: the one place that changes."""
        found = standing(self.cause).search(self.text)
        return found.start() if found else self.text.index(self.cause)

    @property
    def other(self) -> str:
        """The text with other words for the cause, in that place alone."""
        before, after = self.text[: self.start], self.text[self.start + len(self.cause) :]
        if not self.instead and (after[:1].isspace() or not after):
            before = before.rstrip(" ")
        return before + self.instead + (after if before or self.instead else after.lstrip(" "))


class Input(ToolInput):
    """A latent and its pairs; several that vary the cause and its surroundings test more than one."""

    latent: int
    pairs: tuple[Pair, ...] = Field(min_length=1, max_length=20)
    level: float | None = Field(None, gt=0, lt=1, description="the p that a clear result does not exceed; null: any")


class PairReading(ToolOutput):
    """Both texts, the highest activation on each from the cause on (dictionary units), and the first text's token
    that has it."""

    text: str
    other: str
    with_cause: float
    without_cause: float
    token: str | None = Field(description="None when the latent does not fire on the first text")
    separated: bool


class Controls(ToolOutput):
    """The same pairs read by other latents that fire on the first texts: the mean share they separate."""

    other_latents: int
    separated: float


class Output(ToolOutput):
    """`separated`: share of pairs whose first text exceeds the second by a tenth of the latent's maximum over the
    harvest, with its 95 % Wilson interval. `contrast`: mean difference in units of that maximum. `fires_with` and
    `fires_without`: shares of the first and second texts on which it reaches a tenth of the maximum.

    `p`: if which of the different words are causes had nothing to do with where it fires, so many causes or more would
    make it fire with this probability (Fisher's exact test, one-sided; a word does if in half of its texts or more).
    `clear`: p is no more than the level that was asked for."""

    latent: str
    separated: float
    low: float
    high: float
    contrast: float
    fires_with: float
    fires_without: float
    p: float
    clear: bool
    pairs: tuple[PairReading, ...]
    harvest_max: float
    controls: Controls
    verdict: str


@tool(version=4)
def minimal_pairs(input: Input, context: Context) -> Output:
    """Tests what makes a latent fire: reads pairs of texts that differ in the supposed cause alone.

    To attack an account by token, frequency or position, keep the token and its place and change what is around it.
    """
    harvest = context.need_harvest()
    latent = context.subject.latent(input.latent)
    need_firings(harvest, input.latent)
    maxima = np.asarray(harvest.stats().max, float)
    same = [_same(context, pair) for pair in input.pairs]
    first = [_peaks(context, pair.text, start) for pair, start in zip(input.pairs, same, strict=True)]
    second = [_peaks(context, pair.other, start) for pair, start in zip(input.pairs, same, strict=True)]
    clear = CLEAR * maxima[input.latent]
    readings = []
    for pair, (peaks, tokens), (without, _) in zip(input.pairs, first, second, strict=True):
        a, b = float(peaks[input.latent]), float(without[input.latent])
        token = tokens[input.latent] if a > 0 else None
        split = a - b >= clear
        texts = {"text": pair.text, "other": pair.other}
        readings.append(PairReading(**texts, with_cause=a, without_cause=b, token=token, separated=split))
    n, split = len(readings), sum(reading.separated for reading in readings)
    share = wilson(split, n)
    fires_with = sum(reading.with_cause >= clear for reading in readings)
    fires_without = sum(reading.without_cause >= clear for reading in readings)
    contrast = fmean(r.with_cause - r.without_cause for r in readings) / float(maxima[input.latent])
    controls = _controls(input, context, maxima, [p for p, _ in first], [p for p, _ in second])
    p = _chance(input.pairs, readings, clear)
    asked = "" if input.level is None else f" ({input.level:.2g} at most was asked for)"
    return Output(
        latent=str(latent),
        separated=share.value,
        low=share.low,
        high=share.high,
        contrast=contrast,
        fires_with=fires_with / n,
        fires_without=fires_without / n,
        p=p,
        clear=input.level is None or p <= input.level,
        pairs=tuple(readings),
        harvest_max=float(maxima[input.latent]),
        controls=controls,
        verdict=f"separates {split} of {n} pairs [{share.low:.2f}, {share.high:.2f}]: it fires on {fires_with} texts "
        f"with the cause{_without(fires_without, contrast)}; other latents active there separate "
        f"{controls.separated:.2f}; by chance p = {p:.2g}{asked}{_few(n, share.low, share.high)}",
    )


def _chance(pairs: tuple[Pair, ...], readings: list[PairReading], clear: float) -> float:
    """Fisher's p of the different words: whether causes make the latent fire more often than what stands instead."""
    fires: dict[bool, dict[str, list[bool]]] = {True: {}, False: {}}
    for pair, reading in zip(pairs, readings, strict=True):
        fires[True].setdefault(pair.cause.strip().casefold(), []).append(reading.with_cause >= clear)
        fires[False].setdefault(pair.instead.strip().casefold(), []).append(reading.without_cause >= clear)
    causes, others = ([2 * sum(each) >= len(each) for each in fires[which].values()] for which in (True, False))
    return fisher(sum(causes), len(causes), sum(others), len(others))


def _few(n: int, low: float, high: float) -> str:
    return f"; {n} pairs settle little: the interval includes 0.5" if n <= FEW and low <= 0.5 <= high else ""


def _without(fires: int, contrast: float) -> str:
    """What became of the latent without the supposed cause; that it fires there too is not hidden."""
    if not fires:
        return " and on none without"
    how = "less" if contrast > 0 else "more"
    return f", and on {fires} without it too, there by {abs(contrast):.0%} of its maximum {how}"


def _same(context: Context, pair: Pair) -> int:
    """How many tokens both texts begin with, BOS left out: no latent can tell them apart there."""
    a, b = (context.subject.to_tokens(text)[0].tolist() for text in (pair.text, pair.other))
    return next((i for i, (x, y) in enumerate(zip(a[1:], b[1:], strict=False)) if x != y), min(len(a), len(b)) - 1)


def _peaks(context: Context, text: str, start: int) -> tuple[np.ndarray, dict[int, str]]:
    """(float32[n_latents] highest activation from token `start` on, the token of it for each latent that fires)."""
    reading = read_text(context.subject, text)
    blocks = [part.numpy() for part in reading.encoded()]
    dense = np.concatenate(blocks)[start:]  # [n, n_latents]
    peaks: np.ndarray = dense.max(axis=0, initial=0)
    fires = np.flatnonzero(peaks > 0)
    return peaks, {int(i): reading.tokens[start + int(dense[:, i].argmax())] for i in fires}


def _controls(
    input: Input, context: Context, maxima: np.ndarray, first: list[np.ndarray], second: list[np.ndarray]
) -> Controls:
    """Up to 20 other latents, drawn from those that fire on a first text and in the harvest."""
    active = np.flatnonzero((np.max(first, axis=0) > 0) & (maxima > 0))
    others = active[active != input.latent]
    if not len(others):
        return Controls(other_latents=0, separated=0.0)
    chosen = context.rng("minimal_pairs", input.latent).permutation(others)[:CONTROLS]
    differences = np.stack(first)[:, chosen] - np.stack(second)[:, chosen]  # [pairs, chosen]
    return Controls(other_latents=len(chosen), separated=float((differences >= CLEAR * maxima[chosen]).mean()))
