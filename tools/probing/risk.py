"""The probability that what a model says of an entity is made up, from its residual stream: fitted, calibrated, tried on
entities that it never saw."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.workbench.calibration import platt
from tools.workbench.probes import logistic
from tools.workbench.stats import auroc

INNER = 3  # folds by which a layer is chosen and scores are calibrated


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


def folds(groups: Sequence[str], n: int, rng: np.random.Generator) -> np.ndarray:
    """int[rows]: the fold of each row, the same for rows of one group (an entity, case aside)."""
    names = sorted({group.lower() for group in groups})
    order = rng.permutation(len(names))
    of = {name: int(order[i]) % n for i, name in enumerate(names)}
    return np.array([of[group.lower()] for group in groups])


def fit(
    by_layer: dict[int, np.ndarray], made_up: np.ndarray, groups: Sequence[str], rng: np.random.Generator
) -> Fitted:
    """A logistic probe at the layer that does best on held-out groups of these rows, calibrated on them (Platt).

    by_layer: float[n, d] of each layer. made_up: bool[n].
    """
    fold = folds(groups, INNER, rng)
    scores = {layer: _held_out(x, made_up, fold) for layer, x in by_layer.items()}
    layer = max(scores, key=lambda layer: auroc(scores[layer][made_up], scores[layer][~made_up]))
    vector, slope, centre = logistic(by_layer[layer], made_up)
    scale, offset = platt(scores[layer], made_up)
    scale = max(scale, 1e-3)  # a probe that finds nothing would be turned around
    return Fitted(layer, vector, slope * scale, centre - offset / (slope * scale))


def _held_out(x: np.ndarray, made_up: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """float64[n]: each row's log-odds by a probe that saw no row of its fold."""
    scores = np.zeros(len(x))
    for i in range(INNER):
        train, test = fold != i, fold == i
        if not test.any():
            continue
        if made_up[train].all() or not made_up[train].any():
            continue
        vector, slope, centre = logistic(x[train], made_up[train])
        scores[test] = slope * (x[test] @ vector - centre)
    return scores


def cross_fitted(
    by_layer: dict[int, np.ndarray], made_up: np.ndarray, groups: Sequence[str], n: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[int]]:
    """float64[rows], each row's calibrated log-odds by a probe of which nothing, its layer included, was chosen with
    that row's group in sight; and the layer of each of the n folds."""
    fold = folds(groups, n, rng)
    odds, layers = np.zeros(len(made_up)), []
    for i in range(n):
        train, test = fold != i, fold == i
        names, others = ([groups[int(j)] for j in np.flatnonzero(side)] for side in (train, test))
        assert not {name.lower() for name in names} & {name.lower() for name in others}
        found = fit({layer: x[train] for layer, x in by_layer.items()}, made_up[train], names, rng)
        odds[test] = found.log_odds(by_layer[found.layer][test])
        layers.append(found.layer)
    return odds, layers


def simple(columns: np.ndarray, made_up: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """float64[n]: log-odds by a logistic regression of columns [n, k] that saw no row of a row's fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    odds = np.zeros(len(columns))
    for i in np.unique(fold):
        train, test = fold != i, fold == i
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(columns[train], made_up[train])
        odds[test] = model.decision_function(columns[test])
    return odds


def within(odds: np.ndarray, made_up: np.ndarray, kind: np.ndarray) -> float:
    """AUROC of pairs of the same kind alone: what is left when kinds, which differ in how much is known, have no say."""
    total = hits = 0.0
    for each in np.unique(kind):
        rows = kind == each
        positive, negative = odds[rows & made_up], odds[rows & ~made_up]
        pairs = len(positive) * len(negative)
        if pairs:
            total += pairs
            hits += pairs * auroc(positive, negative)
    return hits / total if total else 0.5
