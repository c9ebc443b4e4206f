"""Curves, histograms and points in a plane, drawn on given axes; `tools.workbench.pictures` keeps them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from store.text import clean

INK, BESIDE = "#334155", "#94a3b8"
COLOURS = ("#b2182b", "#2166ac", "#1b7837", "#762a83")
DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (5, 1, 1, 1)))


class Line(NamedTuple):
    """x and y of equal length, low and high too or empty. beside: a control or a baseline, drawn thin and dashed."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    beside: bool = False


class Lines(NamedTuple):
    """across: what x is. level: a horizontal line, such as chance. diagonal: also y = x, for reliability."""

    lines: tuple[Line, ...]
    across: str
    level: float | None = None
    diagonal: bool = False


class Histograms(NamedTuple):
    """Counts of two kinds of text or more over the same bins, by name; edges: one more than the bins."""

    counts: tuple[tuple[str, tuple[int, ...]], ...]
    edges: tuple[float, ...]


class Points(NamedTuple):
    """Named points in a plane; joined in their order, the last with the first where `closed`."""

    labels: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    closed: bool


class Cloud(NamedTuple):
    """Many points in a plane, in groups: each one's name ("": the others, drawn pale) and its (x, y)."""

    groups: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]


def draw_cloud(axes: Axes, shape: Cloud, measure: str) -> None:
    """A group in one colour."""
    named = [name for name, _ in shape.groups if name]
    colours = dict(zip(named, colormaps["tab10"](range(len(named))), strict=True))
    for name, points in shape.groups:
        x, y = zip(*points, strict=True)
        axes.scatter(
            x,
            y,
            s=9 if name else 5,
            color=colours.get(name, BESIDE),
            label=repr(clean(name)) if name else "other tokens",
        )
    _finish_plane(axes, measure)


def draw_points(axes: Axes, shape: Points, measure: str) -> None:
    """Each point with its name."""
    ends = [*range(len(shape.x)), *([0] if shape.closed else [])]
    axes.plot([shape.x[at] for at in ends], [shape.y[at] for at in ends], color=BESIDE, linewidth=1)
    axes.scatter(shape.x, shape.y, color=COLOURS[0], s=18, zorder=2)
    for label, x, y in zip(shape.labels, shape.x, shape.y, strict=True):
        axes.annotate(clean(label), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.margins(0.15)
    _finish_plane(axes, measure)


def draw_lines(axes: Axes, shape: Lines, measure: str) -> None:
    """Each line with its interval as a band."""
    if shape.level is not None:
        axes.axhline(shape.level, color=INK, linewidth=0.8)
    if shape.diagonal:
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.8)
    own = [line for line in shape.lines if not line.beside]
    for line, colour in zip(own, _cycled(COLOURS, len(own)), strict=True):
        axes.plot(line.x, line.y, color=colour, marker="o", markersize=3, linewidth=1.6, label=line.label)
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    others = [line for line in shape.lines if line.beside]
    for line, dashes in zip(others, _cycled(DASHES, len(others)), strict=True):
        axes.plot(line.x, line.y, color=BESIDE, linestyle=dashes, linewidth=1.4, label=line.label)
    axes.set_xlabel(shape.across, fontsize=8)
    _finish(axes, measure)


def draw_histograms(axes: Axes, shape: Histograms, measure: str) -> None:
    """Counts as filled steps over one another."""
    for (label, counts), colour in zip(shape.counts, _cycled(COLOURS, len(shape.counts)), strict=True):
        axes.stairs(counts, shape.edges, color=colour, fill=True, alpha=0.35)
        axes.stairs(counts, shape.edges, color=colour, linewidth=1.4, label=label)
    axes.set_xlabel(measure, fontsize=8)
    _finish(axes, "texts")


def histograms(scores: np.ndarray, positive: np.ndarray, labels: tuple[str, str], bins: int = 24) -> Histograms:
    """Of scores float64[n] by bool[n]; the outermost hundredth on either side is put into the outermost bins."""
    low, high = np.quantile(scores, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    sides = tuple(
        (label, tuple(int(n) for n in np.histogram(np.clip(scores[rows], edges[0], edges[-1]), edges)[0]))
        for label, rows in zip(labels, (positive, ~positive), strict=True)
    )
    return Histograms(sides, tuple(float(edge) for edge in edges))


def _finish_plane(axes: Axes, measure: str) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"first axis: {measure}", fontsize=8)
    _finish(axes, "second axis, in the same units")


def _finish(axes: Axes, upright: str) -> None:
    axes.set_ylabel(upright, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _cycled(values: Sequence[object], n: int) -> list[object]:
    return [values[at % len(values)] for at in range(n)]
