"""Probes of an attribute with several values: where the right value stands among them, chance one half."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from tools.workbench.causal import interval
from tools.workbench.estimators import PENALTIES, STEPS, fit_quietly
from tools.workbench.stats import Interval

SHUFFLES = 3
FOLDS = 4
SPELLING = (2, 3)  # characters that stand together


class Classed(NamedTuple):
    """standings: float64[m] of the held-out entities; own: their mean, the AUROC of the right value among all, with its
    95 % interval; accuracy: the share whose right value comes first. validated: the same AUROC in cross-validation.
    shuffled: of shuffled values."""

    standings: np.ndarray
    own: Interval
    accuracy: float
    validated: float
    shuffled: float


def standing(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64[n]: the share of other values whose score is below that of the right one, ties counting half; scores
    float64[n, values], truth int64[n]. Its mean is the AUROC of right against wrong values within an entity."""
    ranks = rankdata(scores, axis=1)[np.arange(len(truth)), truth]
    return np.asarray((ranks - 1) / (scores.shape[1] - 1))


def classed(x: np.ndarray, truth: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> Classed:
    """A multinomial logistic probe of x [n, d] for truth int64[n], fitted where test bool[n] is False."""
    x = np.asarray(x, np.float64)
    train = ~test
    validated = [_validated(x[train], truth[train], penalty) for penalty in PENALTIES]
    best = int(np.argmax(validated))
    scores = _scores(x[train], truth[train], x[test], PENALTIES[best])
    found = standing(scores, truth[test])
    dealt = [
        standing(_scores(x[train], rng.permutation(truth[train]), x[test], PENALTIES[best]), truth[test]).mean()
        for _ in range(SHUFFLES)
    ]
    accuracy = float((scores.argmax(1) == truth[test]).mean())
    return Classed(found, within(found), accuracy, validated[best], float(np.mean(dealt)))


def by_spelling(names: Sequence[str], truth: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The standings that the names' letters alone give: a naive Bayes classifier of pairs and triples of characters."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import ComplementNB

    counts = CountVectorizer(analyzer="char_wb", ngram_range=SPELLING)
    train = counts.fit_transform([name for name, held in zip(names, test, strict=True) if not held])
    model = ComplementNB().fit(train, truth[~test])
    others = counts.transform([name for name, held in zip(names, test, strict=True) if held])
    return standing(_all_values(model, model.predict_joint_log_proba(others), truth), truth[test])


def within(standings: np.ndarray) -> Interval:
    """Their mean with its 95 % interval, within [0, 1]."""
    mean, (low, high) = float(standings.mean()), interval(standings)
    return Interval(mean, max(0.0, mean if low is None else low), min(1.0, mean if high is None else high))


def _validated(x: np.ndarray, truth: np.ndarray, penalty: float) -> float:
    fold = np.arange(len(truth)) % FOLDS
    found = []
    for own in range(FOLDS):
        scores = _scores(x[fold != own], truth[fold != own], x[fold == own], penalty, truth)
        found.append(standing(scores, truth[fold == own]))
    return float(np.concatenate(found).mean())


def _scores(
    x: np.ndarray, truth: np.ndarray, others: np.ndarray, penalty: float, every: np.ndarray | None = None
) -> np.ndarray:
    """float64[m, values]: log-odds that a probe of x gives `others`; values it never saw come last."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=STEPS))
    fit_quietly(model, x, truth)
    return _all_values(model, model.predict_log_proba(others), truth if every is None else every)


def _all_values(model: Any, scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    found = np.full((len(scores), int(truth.max()) + 1), scores.min() - 1)
    found[:, model.classes_] = scores
    return found
