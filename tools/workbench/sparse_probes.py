"""Probes of a few units: those whose means differ most between two classes, in a logistic probe (Gurnee et al.
2305.01610, section 3.2; the mean difference in standard deviations of the unit)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.workbench.decoding import Split
from tools.workbench.estimators import fit_probe
from tools.workbench.stats import Interval, auroc

ROTATIONS = 5
INVERSE_PENALTY = 1.0


class SparseScore(NamedTuple):
    """units: chosen on the texts to fit on, the strongest first. own: AUROC on the held-out texts; f1 there, where a
    probability of one half and more counts as positive."""

    units: tuple[int, ...]
    own: Interval
    f1: float


def chosen_units(x: np.ndarray, positive: np.ndarray, size: int) -> list[int]:
    """The `size` columns of x [n, units] whose means differ most between the classes, in standard deviations."""
    spread = x.std(0)
    gap = np.abs(x[positive].mean(0) - x[~positive].mean(0)) / np.where(spread > 0, spread, np.inf)
    return [int(unit) for unit in np.argsort(-gap, kind="stable")[:size]]


def scored(x: np.ndarray, split: Split, size: int, rng: np.random.Generator) -> SparseScore:
    """A probe of `size` of the units x [n, units], chosen and fitted on the texts that are not held out."""
    train, test = ~split.test, split.test
    units = chosen_units(x[train], split.positive[train], size)
    fitted = fit_probe(
        "logistic", x[train][:, units], split.positive[train], split.groups[train], 0, setting=INVERSE_PENALTY
    )
    scores = fitted.scores(x[test][:, units])
    said, truth = scores > 0, split.positive[test]
    f1 = 2 * int((said & truth).sum()) / max(1, int(said.sum()) + int(truth.sum()))
    return SparseScore(tuple(units), split.interval(scores, rng), f1)


def rotated(x: np.ndarray, split: Split, sizes: Sequence[int], rng: np.random.Generator) -> list[float]:
    """For each size the mean AUROC over random rotations of x [n, d]."""
    found = []
    for _ in range(ROTATIONS):
        turn = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
        turned = x @ turn
        found.append([scored(turned, split, size, rng).own.value for size in sizes])
    means: list[float] = np.mean(found, axis=0).tolist()
    return means


def one_unit(values: np.ndarray, split: Split, labels: np.ndarray) -> float:
    """AUROC on the held-out texts of one unit float64[n], turned as `labels` bool[n] of the others say."""
    fitted_on = ~split.test
    up = values[fitted_on & labels].mean() >= values[fitted_on & ~labels].mean()
    own = split.positive[split.test]
    scores = values[split.test] * (1.0 if up else -1.0)
    return auroc(scores[own], scores[~own])
