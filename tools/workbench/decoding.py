"""How well a label can be read from activations, on texts whose entities or documents the probe never saw, beside what
needs no insight: shuffled labels, random directions, and the text's surface (Kantamneni et al. 2502.16681).

How to use it: `Split.of(positive, groups, rng)`, then `graded(estimator, x, split, rng)` for each site; choose between
sites by `fitted.validated`, which the held-out texts have no part in; `surface_baselines` once for the texts.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.workbench.estimators import Estimator, Fitted, fit_probe
from tools.workbench.splits import held_out, shuffled
from tools.workbench.stats import CONFIDENCE, Interval, auroc, auroc_interval

SHUFFLES = 8
RANDOMS = 20
BOOTSTRAPS = 500
FEW = 200  # texts to fit on, below which a learning curve is told
SHARES = (0.25, 0.5, 0.75, 1.0)
DRAWS = 5  # of each share
WORD = re.compile(r"\w+")


class Split(NamedTuple):
    """positive: bool[n]; groups: int64[n], entities or documents; test: bool[n], held out, no group on both sides."""

    positive: np.ndarray
    groups: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> "Split":
        return cls(positive, groups, held_out(positive, groups, rng))

    def interval(self, scores: np.ndarray, rng: np.random.Generator) -> Interval:
        """AUROC of the held-out texts' scores float64[m]. Its interval is that of the groups' mean scores: texts of one
        entity are no independent evidence."""
        found = auroc_interval(*self.entities(scores), rng)
        value = self.auroc(scores)
        return Interval(value, min(value, found.low), max(value, found.high))

    def entities(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean score of each held-out entity's positive texts, and of each one's negative texts."""
        kinds = np.column_stack([self.groups[self.test], self.positive[self.test]])
        each, row = np.unique(kinds, axis=0, return_inverse=True)
        means = np.bincount(row, scores) / np.bincount(row)
        own = each[:, 1] == 1
        return means[own], means[~own]

    def auroc(self, scores: np.ndarray) -> float:
        own = self.positive[self.test]
        return auroc(scores[own], scores[~own])


class Graded(NamedTuple):
    """scores: float64[m] of the held-out texts. own: their AUROC. shuffled: mean AUROC of eight probes of shuffled
    labels; random: median AUROC of twenty random directions, each turned as the other texts say."""

    fitted: Fitted
    scores: np.ndarray
    own: Interval
    shuffled: float
    random: float


def graded(estimator: Estimator, x: np.ndarray, split: Split, rng: np.random.Generator) -> Graded:
    """A probe of x float[n, d], fitted on the texts that are not held out and graded on those that are."""
    x = np.asarray(x, np.float64)
    train, test = ~split.test, split.test
    seed = int(rng.integers(2**31))
    fitted = fit_probe(estimator, x[train], split.positive[train], split.groups[train], seed)
    scores = fitted.scores(x[test])
    dealt = []
    for _ in range(SHUFFLES):
        labels = shuffled(split.positive[train], rng)
        other = fit_probe(estimator, x[train], labels, split.groups[train], seed, fitted.chosen)
        dealt.append(split.auroc(other.scores(x[test])))
    random = []
    for vector in rng.normal(size=(RANDOMS, x.shape[1])):
        projected = x @ vector
        random.append(split.auroc(projected[test] * _sign(projected[train], split.positive[train])))
    return Graded(fitted, scores, split.interval(scores, rng), float(np.mean(dealt)), float(np.median(random)))


class Surface(NamedTuple):
    """AUROC of what a probe must beat: the number of tokens, their rarity, their log-probability, the three together in
    a logistic probe, and whether the text holds the one word that tells most on the other texts (word)."""

    length: Interval
    frequency: Interval
    log_probability: Interval
    together: Interval
    best_word: Interval
    word: str

    @property
    def best(self) -> float:
        """The highest of them."""
        each = (self.length, self.frequency, self.log_probability, self.together, self.best_word)
        return max(interval.value for interval in each)


def surface_baselines(surface: np.ndarray, texts: Sequence[str], split: Split, rng: np.random.Generator) -> Surface:
    """surface: float64[n, 3] of `read_activations`. Each is turned as the texts that are not held out say."""
    train, test = ~split.test, split.test

    def alone(values: np.ndarray) -> Interval:
        return split.interval(values[test] * _sign(values[train], split.positive[train]), rng)

    fitted = fit_probe("logistic", surface[train], split.positive[train], split.groups[train], 0)
    words = [set(WORD.findall(text.lower())) for text in texts]
    word = _telling(words, split)
    holds = np.array([word in own for own in words], float)
    length, frequency, log_probability = (alone(column) for column in surface.T)
    return Surface(
        length=length,
        frequency=frequency,
        log_probability=log_probability,
        together=split.interval(fitted.scores(surface[test]), rng),
        best_word=alone(holds),
        word=word,
    )


def _telling(words: Sequence[set[str]], split: Split) -> str:
    """The word whose share of positive texts differs most from that of negative ones, of those not held out; "" where
    there are no words."""
    counts: dict[str, list[int]] = {}
    for own, positive, test in zip(words, split.positive, split.test, strict=True):
        if not test:
            for word in own:
                counts.setdefault(word, [0, 0])[int(positive)] += 1
    positives = int((split.positive & ~split.test).sum())
    negatives = int((~split.positive & ~split.test).sum())

    def gap(word: str) -> float:
        return abs(counts[word][1] / positives - counts[word][0] / negatives)

    return max(sorted(counts), key=gap, default="")


class Point(NamedTuple):
    """Mean AUROC of `DRAWS` probes, each of n texts, and its lowest and highest."""

    n: int
    value: float
    low: float
    high: float


def learning_curve(
    estimator: Estimator, x: np.ndarray, split: Split, rng: np.random.Generator, setting: float
) -> list[Point]:
    """AUROC by the number of texts fitted on, whole groups drawn; empty where there are enough of them."""
    train = np.flatnonzero(~split.test)
    if len(train) >= FEW:
        return []
    x = np.asarray(x, np.float64)
    points = []
    for share in SHARES:
        found, sizes = [], []
        for _ in range(1 if share == 1 else DRAWS):
            rows = _drawn(train, split, share, rng)
            fitted = fit_probe(estimator, x[rows], split.positive[rows], split.groups[rows], 0, setting)
            found.append(split.auroc(fitted.scores(x[split.test])))
            sizes.append(len(rows))
        points.append(Point(round(float(np.mean(sizes))), float(np.mean(found)), min(found), max(found)))
    return points


def gain(scores: np.ndarray, others: np.ndarray, split: Split, rng: np.random.Generator) -> Interval:
    """AUROC of one probe minus that of another on the same held-out texts, by a bootstrap over entities of each class:
    texts of one entity are no independent evidence."""
    own, beside = split.entities(scores), split.entities(others)
    value = split.auroc(scores) - split.auroc(others)
    drawn = []
    for _ in range(BOOTSTRAPS):
        up, down = (rng.integers(len(side), size=len(side)) for side in own)
        drawn.append(auroc(own[0][up], own[1][down]) - auroc(beside[0][up], beside[1][down]))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _drawn(train: np.ndarray, split: Split, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of a share of each class's groups, at least two of each."""
    kept: list[np.ndarray] = []
    for side in (True, False):
        own = rng.permutation(np.unique(split.groups[train[split.positive[train] == side]]))
        kept.append(own[: max(2, round(share * len(own)))])
    return train[np.isin(split.groups[train], np.concatenate(kept))]


def _sign(values: np.ndarray, positive: np.ndarray) -> float:
    return 1.0 if values[positive].mean() >= values[~positive].mean() else -1.0
