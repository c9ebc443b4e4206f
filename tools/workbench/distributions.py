"""Pictures of probabilities and of scores: reliability diagrams, and histograms of two groups."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tools.workbench.calibration import Bin

OWN, OTHER, INK = "#b2182b", "#94a3b8", "#334155"


class Reliability(NamedTuple):
    """Bins of probabilities, and a diagonal on which a calibrated one lies."""

    bins: tuple[Bin, ...]


class Histogram(NamedTuple):
    """Scores of two groups or more by name, the first in colour; marked: values at which a line stands, by name."""

    groups: dict[str, tuple[float, ...]]
    marked: dict[str, float]


def reliability(axes: Axes, shape: Reliability, measure: str) -> None:
    """The share of positives by mean probability with its 95 % interval; the area of a point is the bin's size."""
    axes.plot([0, 1], [0, 1], color=OTHER, linewidth=1, linestyle="--")
    most = max(each.count for each in shape.bins)
    for each in shape.bins:
        axes.plot([each.mean] * 2, [each.share_low, each.share_high], color=INK, linewidth=1.2)
        axes.scatter([each.mean], [each.share], s=12 + 130 * each.count / most, color=OWN, zorder=3)
        axes.annotate(f"{each.count:,}", (each.mean, each.share), (6, -10), textcoords="offset points", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel(measure, fontsize=8)
    axes.set_ylabel("share that is so, 95 % interval", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def histogram(axes: Axes, shape: Histogram, measure: str) -> None:
    """Shares of each group by value, one over the other."""
    values = np.concatenate([np.asarray(group, float) for group in shape.groups.values()])
    edges = np.linspace(float(values.min()), float(values.max()) + 1e-9, 31)
    for at, (name, group) in enumerate(shape.groups.items()):
        weights = np.full(len(group), 1 / max(len(group), 1))
        colour = OWN if at == 0 else OTHER
        axes.hist(group, edges.tolist(), weights=weights, color=colour, alpha=0.65, label=f"{name} (n = {len(group):,})")
    for at, (name, value) in enumerate(shape.marked.items()):
        axes.axvline(value, color=INK, linewidth=1, linestyle=("--", ":", "-.")[at % 3], label=f"{name} {value:.3g}")
    axes.set_xlabel(measure, fontsize=8)
    axes.set_ylabel("share of the group", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
