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
from tools.workbench.stats import wilson

CHANGED = 0.5  # of a text's characters: more of them changed is no minimal pair
CLEAR = 0.1  # of the latent's maximum over the harvest: what counts as firing, and as a difference
CONTROLS = 20  # other active latents, read on the same pairs


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
        if len(self.cause) > CHANGED * len(self.text):
            raise ValueError("the cause is more than half of its text: write a longer text around it")
        return self

    @property
    def other(self) -> str:
        """The text without the cause: replaced wherever it stands as words of its own, else wherever it stands."""
        whole = rf"(?<!\w){re.escape(self.cause)}(?!\w)"
        pattern = whole if re.search(whole, self.text) else re.escape(self.cause)
        return " ".join(re.sub(pattern, lambda _: self.instead, self.text).split())


class Input(ToolInput):
    """A latent and its pairs; several that vary the cause and its surroundings test more than one."""

    latent: int
    pairs: tuple[Pair, ...] = Field(min_length=1, max_length=20)


class PairReading(ToolOutput):
    """Both texts, the highest activation on each (dictionary units), and the token of the first that has it."""

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
    `fires_without`: shares of the first and second texts on which it reaches a tenth of the maximum."""

    latent: str
    separated: float
    low: float
    high: float
    contrast: float
    fires_with: float
    fires_without: float
    pairs: tuple[PairReading, ...]
    harvest_max: float
    controls: Controls
    verdict: str


@tool(version=2)
def minimal_pairs(input: Input, context: Context) -> Output:
    """Tests what makes a latent fire: reads pairs of texts that differ in the supposed cause alone.

    To attack an account by token, frequency or position, keep the token and its place and change what is around it.
    """
    harvest = context.need_harvest()
    latent = context.subject.latent(input.latent)
    need_firings(harvest, input.latent)
    maxima = np.asarray(harvest.stats().max, float)
    first = [_peaks(context, pair.text) for pair in input.pairs]
    second = [_peaks(context, pair.other) for pair in input.pairs]
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
    return Output(
        latent=str(latent),
        separated=share.value,
        low=share.low,
        high=share.high,
        contrast=contrast,
        fires_with=fires_with / n,
        fires_without=fires_without / n,
        pairs=tuple(readings),
        harvest_max=float(maxima[input.latent]),
        controls=controls,
        verdict=f"separates {split} of {n} pairs [{share.low:.2f}, {share.high:.2f}]: it fires on {fires_with} texts "
        f"with the cause{_without(fires_without, contrast)}; other latents active there separate "
        f"{controls.separated:.2f}",
    )


def _without(fires: int, contrast: float) -> str:
    """What became of the latent without the supposed cause; that it fires there too is not hidden."""
    if not fires:
        return " and on none without"
    how = "less" if contrast > 0 else "more"
    return f", and on {fires} without it too, there by {abs(contrast):.0%} of its maximum {how}"


def _peaks(context: Context, text: str) -> tuple[np.ndarray, dict[int, str]]:
    """(float32[n_latents] highest activation on the text, the token of it for each latent that fires)."""
    reading = read_text(context.subject, text)
    blocks = [part.numpy() for part in reading.encoded()]
    dense = np.concatenate(blocks)  # [n, n_latents]
    where = dense.argmax(axis=0)
    peaks: np.ndarray = dense.max(axis=0)
    return peaks, {int(i): reading.tokens[int(where[i])] for i in np.flatnonzero(peaks > 0)}


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
