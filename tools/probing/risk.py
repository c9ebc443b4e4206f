"""The probability that what a model says of an entity is made up, from its residual stream: fitted, calibrated, and
tried on entities that it never saw."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tools.workbench.calibration import platt
from tools.workbench.estimators import fit_probe, logistic
from tools.workbench.splits import folds
from tools.workbench.stats import auroc

Cuts = Sequence[tuple[np.ndarray, np.ndarray]]  # rows to fit on and to grade on


class Fitted(NamedTuple):
    """A probe of one layer; log-odds of being made up: slope * (x @ vector - centre). vector: float64[d], norm 1."""

    layer: int
    vector: np.ndarray
    slope: float
    centre: float

    def log_odds(self, x: np.ndarray) -> np.ndarray:
        """float64[n] of x [n, d]."""
        odds: np.ndarray = self.slope * (x @ self.vector - self.centre)
        return odds


def probability(log_odds: np.ndarray) -> np.ndarray:
    """float64[n]"""
    p: np.ndarray = 1 / (1 + np.exp(-np.clip(log_odds, -50, 50)))
    return p


def fit(by_layer: dict[int, np.ndarray], made_up: np.ndarray, groups: np.ndarray, seed: int) -> Fitted:
    """A logistic probe at the layer that does best on held-out groups of these rows, calibrated on them (Platt).

    by_layer: float[n, d] of each layer. made_up: bool[n]; groups: int64[n], of which none is split. ValueError where a
    class has too few groups.
    """
    cuts = folds(made_up, groups, seed)
    if not cuts:
        raise ValueError("a class has one group alone")
    seen = np.zeros(len(made_up), bool)
    for _, grade in cuts:
        seen[grade] = True
    labels = made_up[seen]
    scores = {layer: _held_out(x, made_up, cuts)[seen] for layer, x in by_layer.items()}
    layer = max(scores, key=lambda layer: auroc(scores[layer][labels], scores[layer][~labels]))
    vector, _, centre, slope = logistic(by_layer[layer], made_up)
    scale, offset = platt(scores[layer], labels)
    scale = max(scale, 1e-3)  # a probe that finds nothing would be turned around
    return Fitted(layer, vector, slope * scale, centre - offset / (slope * scale))


def _held_out(x: np.ndarray, made_up: np.ndarray, cuts: Cuts) -> np.ndarray:
    """float64[n]: each row's log-odds by a probe that saw no row of its fold."""
    scores = np.zeros(len(x))
    for own, grade in cuts:
        scores[grade] = logistic(x[own], made_up[own]).log_odds(x[grade])
    return scores


def cross_fitted(
    by_layer: dict[int, np.ndarray],
    made_up: np.ndarray,
    groups: np.ndarray,
    cuts: Cuts,
    seed: int,
    tell: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """float64[n]: each row's calibrated log-odds by a probe of which nothing, its layer included, was chosen with that
    row's group in sight. `tell` is called as each cut is done."""
    odds = np.zeros(len(made_up))
    for own, grade in cuts:
        assert not np.intersect1d(groups[own], groups[grade]).size, "a group is on both sides"
        found = fit({layer: x[own] for layer, x in by_layer.items()}, made_up[own], groups[own], seed)
        odds[grade] = found.log_odds(by_layer[found.layer][grade])
        tell()
    return odds


def simple(columns: np.ndarray, made_up: np.ndarray, cuts: Cuts) -> np.ndarray:
    """float64[n]: log-odds by a logistic regression of columns [n, k] that saw no row of a row's fold."""
    odds = np.zeros(len(columns))
    for own, grade in cuts:
        fitted = fit_probe("logistic", columns[own], made_up[own], own, 0, setting=1.0)
        odds[grade] = fitted.scores(columns[grade])
    return odds


def within(odds: np.ndarray, made_up: np.ndarray, kind: np.ndarray) -> float:
    """AUROC over pairs of the same kind alone: kinds differ in how much is known of them, and have no say here."""
    total = hits = 0.0
    for each in np.unique(kind):
        rows = kind == each
        positive, negative = odds[rows & made_up], odds[rows & ~made_up]
        pairs = len(positive) * len(negative)
        if pairs:
            total += pairs
            hits += pairs * auroc(positive, negative)
    return hits / total if total else 0.5
