"""What every probing tool tells of a probe: scores by layer, controls, a learning curve, how the classes lie apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tools.workbench.activations import hook_of
from tools.workbench.charts import Line, Lines, histograms
from tools.workbench.context import Context
from tools.workbench.decoding import Graded, Point, Split, Surface
from tools.workbench.directions import LATENTS, Direction
from tools.workbench.estimators import linear
from tools.workbench.pictures import Picture
from tools.workbench.registry import ToolError, ToolOutput
from tools.workbench.sites import At

BINS = 12


class ProbeScore(ToolOutput):
    """validated: AUROC in cross-validation on the texts to fit on, which is chosen by; auroc: on the held-out texts,
    with its 95 % interval; and on them probes of shuffled labels and random directions."""

    validated: float
    auroc: float
    low: float
    high: float
    shuffled: float
    random_direction: float

    @staticmethod
    def fields(each: Graded) -> dict[str, float]:
        """Of a graded probe."""
        return {
            "validated": each.fitted.validated,
            "auroc": each.own.value,
            "low": each.own.low,
            "high": each.own.high,
            "shuffled": each.shuffled,
            "random_direction": each.random,
        }


class LayerScore(ProbeScore):
    layer: int

    @classmethod
    def of(cls, layer: int, each: Graded) -> "LayerScore":
        return cls(layer=layer, **cls.fields(each))


class Learned(ToolOutput):
    """AUROC of probes fitted on n texts; the lowest and highest of the draws."""

    n: int
    auroc: float
    low: float
    high: float


class Bin(ToolOutput):
    low: float
    high: float
    count: int


class Separation(ToolOutput):
    """How the held-out texts of either kind are spread over the probe's scores."""

    positive: tuple[Bin, ...]
    negative: tuple[Bin, ...]

    @classmethod
    def of(cls, scores: np.ndarray, split: Split) -> "Separation":
        drawn = histograms(scores, split.positive[split.test], ("positive", "negative"), BINS)
        ends = list(zip(drawn.edges[:-1], drawn.edges[1:], strict=True))
        sides = {
            name: tuple(Bin(low=low, high=high, count=n) for (low, high), n in zip(ends, counts, strict=True))
            for name, counts in drawn.counts
        }
        return cls(**sides)


class OnSurface(ToolOutput):
    """AUROC on the same held-out texts of what needs no look inside: the number of tokens, their rarity and their
    log-probability, and the three together; the word of the texts that tells most."""

    length: float
    frequency: float
    log_probability: float
    surface: float
    best_word: float
    word: str

    @staticmethod
    def fields(surface: Surface) -> dict[str, Any]:
        """Of the baselines."""
        return {
            "length": surface.length.value,
            "frequency": surface.frequency.value,
            "log_probability": surface.log_probability.value,
            "surface": surface.together.value,
            "best_word": surface.best_word.value,
            "word": surface.word,
        }


class Controls(OnSurface):
    """And the same estimator on shuffled labels, and random directions."""

    shuffled: float
    random_direction: float

    @classmethod
    def of(cls, chosen: Graded, surface: Surface) -> "Controls":
        return cls(shuffled=chosen.shuffled, random_direction=chosen.random, **cls.fields(surface))


def is_clear(chosen: Graded, surface: Surface) -> bool:
    """Whether a probe stands clear of chance, shuffled labels, random directions and the text's surface: by more than
    its interval, as every score must."""
    return chosen.own.low > max(0.5, chosen.shuffled, chosen.random, surface.best)


def told(chosen: Graded, surface: Surface, n: int) -> str:
    """A probe's AUROC beside its controls, for a verdict."""
    return (
        f"with an AUROC of {chosen.own.value:.2f} [{chosen.own.low:.2f}, {chosen.own.high:.2f}] on {n} held-out texts; "
        f"shuffled labels {chosen.shuffled:.2f}, random directions {chosen.random:.2f}, length, rarity and "
        f"log-probability {surface.together.value:.2f}, the word {surface.word!r} {surface.best_word.value:.2f}"
    )


def save_probe(context: Context, site: At, chosen: Graded, x: np.ndarray, split: Split, method: str) -> str | None:
    """Keeps a linear probe of x float[n, d] as a direction and returns its name; None where it is not linear.

    ToolError where the activations are all the same, so that there is no direction.
    """
    if not x.std(0).any():
        raise ToolError(f"The texts do not differ at {site[0]} of layer {site[1]}: read another position, or the mean.")
    if not chosen.fitted.is_linear:
        return None
    fitted_on = ~split.test
    probe = linear(chosen.fitted, x[fitted_on].astype(np.float64), split.positive[fitted_on])
    direction = Direction(
        vector=torch.tensor(probe.vector, dtype=torch.float32),
        model=context.subject.name,
        hook=hook_of(context.subject, site) + (LATENTS if site[0] == "latent" else ""),
        method=method,
        norm=probe.norm,
        centre=probe.centre,
        slope=probe.slope,
    )
    return context.directions.save(direction)


def curve_picture(
    title: str, curves: Mapping[str, Sequence[LayerScore]], surface: Surface, foot: str
) -> Picture | None:
    """AUROC by layer of each named curve, beside the first one's baselines; None where there is one layer alone."""
    first = next(iter(curves.values()))
    if len(first) < 2:
        return None
    layers = tuple(float(row.layer) for row in first)

    def flat(value: float) -> tuple[float, ...]:
        return (value,) * len(layers)

    own = [
        Line(
            name,
            tuple(float(row.layer) for row in rows),
            tuple(row.auroc for row in rows),
            tuple(row.low for row in rows),
            tuple(row.high for row in rows),
        )
        for name, rows in curves.items()
    ]
    beside = {
        "shuffled labels": tuple(row.shuffled for row in first),
        "random directions": tuple(row.random_direction for row in first),
        "length, rarity, log-probability": flat(surface.together.value),
        f"the word {surface.word!r}": flat(surface.best_word.value),
    }
    lines = (*own, *(Line(name, layers, values, beside=True) for name, values in beside.items()))
    return Picture(title, Lines(lines, "layer", level=0.5), "AUROC on held-out texts", foot)


def separation_picture(title: str, scores: np.ndarray, split: Split, labels: tuple[str, str], foot: str) -> Picture:
    """The held-out texts of either kind by the probe's score."""
    return Picture(title, histograms(scores, split.positive[split.test], labels), "score of a held-out text", foot)


def learning_picture(title: str, points: Sequence[Point], foot: str) -> Picture | None:
    """AUROC by the number of texts fitted on; None where no learning curve was drawn."""
    if not points:
        return None
    n, value, low, high = (tuple(float(number) for number in column) for column in zip(*points, strict=True))
    shape = Lines((Line("probe", n, value, low, high),), "texts fitted on", level=0.5)
    return Picture(title, shape, "AUROC on held-out texts", foot)
