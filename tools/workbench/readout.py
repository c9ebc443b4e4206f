"""A linear classifier on a model's activations, taken apart into latents: what each tells it, and what it says without.

How to use it: `read_texts` reads texts at the dictionary's hook point, one vector each; `trained` fits the classifier;
`effects` says what each latent adds to the log-odds between the classes; `ablated` takes latents out of the vectors;
`graded` measures accuracy by group. All of it is exact: the classifier is linear in the vector, the vector linear in
the latents (x = f @ D + error), and a mean over tokens keeps both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold

from store.activations import Window
from tools.workbench.batches import CONTEXT, forward
from tools.workbench.estimators import logistic
from tools.workbench.stats import BOOTSTRAPS, CONFIDENCE, Interval, wilson
from tools.workbench.subject import Subject

FOLDS = 5

Tokens = Literal["mean", "last"]


class Texts(NamedTuple):
    """n texts as read. x: float64[n, d_model]; latents: float32[n, latents]; both the mean over tokens that are no
    sinks, or of the last such token. windows: their tokens; peaks: float32[n, latents], the highest activation on a
    token. cut: how many texts were longer than what is read of them."""

    x: np.ndarray
    latents: np.ndarray
    peaks: np.ndarray
    windows: list[Window]
    cut: int


def read_texts(subject: Subject, texts: Sequence[str], tokens: Tokens) -> Texts:
    """The texts at the dictionary's hook point, of each the first 255 tokens after BOS. Texts must not be empty."""
    ids = subject.tokenize(texts)
    windows = [Window(i, i, 0, np.array([subject.bos, *own[: CONTEXT - 1]], np.int32)) for i, own in enumerate(ids)]
    x = np.zeros((len(texts), subject.d_model))
    latents, peaks = (np.zeros((len(texts), subject.dictionary.n_latents), np.float32) for _ in range(2))
    for batch in forward(subject, windows):
        for window, residual, valid in zip(batch.windows, batch.residual, batch.valid, strict=True):
            kept = residual[valid] if bool(valid.any()) else residual[len(window.tokens) - 1 :][:1]
            active = subject.dictionary.encode(kept).float()
            peaks[window.id] = active.max(0).values.cpu().numpy()
            if tokens == "last":
                kept, active = kept[-1:], active[-1:]
            x[window.id] = kept.double().mean(0).cpu().numpy()
            latents[window.id] = active.mean(0).cpu().numpy()
    return Texts(x, latents, peaks, windows, sum(len(own) >= CONTEXT for own in ids))


class Classifier(NamedTuple):
    """log-odds of the positive class = x @ weight + bias."""

    weight: np.ndarray
    bias: float

    def says(self, x: np.ndarray) -> np.ndarray:
        """bool[n]: whether it calls each of x [n, d_model] positive."""
        called: np.ndarray = x @ self.weight + self.bias > 0
        return called


def trained(x: np.ndarray, positive: np.ndarray) -> Classifier:
    """Logistic regression with an L2 penalty, on x [n, d_model] and bool[n]."""
    found = logistic(x, positive)
    return Classifier(found.slope * found.vector, -found.slope * found.centre)


def effects(
    classifier: Classifier, texts: Texts, positive: np.ndarray, decoder: np.ndarray
) -> tuple[np.ndarray, float]:
    """float64[latents]: what each adds to the difference of mean log-odds between the classes, the difference of its
    mean activation times its decoder row times the weight (2411.18895, section 3.1); and what the error adds."""
    sides = positive, ~positive
    gap = np.subtract(*(texts.latents[side].mean(0, dtype=np.float64) for side in sides))
    found = gap * (decoder @ classifier.weight)
    whole = float(np.subtract(*(texts.x[side].mean(0) for side in sides)) @ classifier.weight)
    return found, whole - float(found.sum())


def ablated(texts: Texts, latents: Sequence[int], to: np.ndarray, decoder: np.ndarray) -> np.ndarray:
    """float64[n, d_model]: the texts' vectors with these latents at `to` [latents], all else and the error kept."""
    chosen = list(latents)
    moved = texts.latents[:, chosen].astype(np.float64) - to[chosen]
    left: np.ndarray = texts.x - moved @ decoder[chosen]
    return left


class Grade(NamedTuple):
    """by_group: the share of each group that is right. mean: over groups, so that all weigh alike; worst: of the least
    group. follows: how much more often the positive class is said of the one attribute than of the other, within
    labels; 0 where the attribute has no say."""

    by_group: dict[tuple[bool, bool], Interval]
    mean: Interval
    worst: Interval
    follows: float


Groups = Mapping[tuple[bool, bool], np.ndarray]  # (label, attribute) -> the texts int64[m] that have both


def graded(says: np.ndarray, positive: np.ndarray, groups: Groups) -> Grade:
    """How right bool[n] is, whose truth is `positive`."""
    right = says == positive
    shares = {key: wilson(int(right[own].sum()), len(own)) for key, own in groups.items()}
    k, value = len(shares), float(np.mean([share.value for share in shares.values()]))
    # independent shares: squares of distances add up (Newcombe 1998, method 10)
    below = math.sqrt(sum((share.value - share.low) ** 2 for share in shares.values())) / k
    above = math.sqrt(sum((share.high - share.value) ** 2 for share in shares.values())) / k
    said = {key: float(says[own].mean()) for key, own in groups.items()}
    follows = float(np.mean([said[label, True] - said[label, False] for label in (False, True)]))
    mean = Interval(value, max(0.0, value - below), min(1.0, value + above))
    return Grade(shares, mean, min(shares.values(), key=lambda share: share.value), abs(follows))


def gain(
    after: np.ndarray, before: np.ndarray, positive: np.ndarray, groups: Groups, rng: np.random.Generator
) -> Interval:
    """By how much the mean over groups rises, on the same texts, with a 95 % bootstrap interval drawn within groups."""
    change = (after == positive).astype(float) - (before == positive)
    draws = np.mean([rng.choice(change[own], (BOOTSTRAPS, len(own))).mean(1) for own in groups.values()], axis=0)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(np.mean([change[own].mean() for own in groups.values()]))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def crossed(x: np.ndarray, positive: np.ndarray, groups: Groups, seed: int) -> np.ndarray:
    """bool[n]: what classifiers trained on balanced texts say of texts that they were not trained on (5 folds, or as
    many as the smallest group has texts; groups weigh alike because equally many of each are trained on)."""
    which = np.zeros(len(positive), int)
    for number, own in enumerate(groups.values()):
        which[own] = number
    folds = StratifiedKFold(min(FOLDS, *(len(own) for own in groups.values())), shuffle=True, random_state=seed)
    says = np.zeros(len(positive), bool)
    rng = np.random.default_rng(seed)
    for learned, asked in folds.split(x, which):
        least = min(int((which[learned] == number).sum()) for number in range(len(groups)))
        even = np.concatenate([rng.permutation(learned[which[learned] == n])[:least] for n in range(len(groups))])
        says[asked] = trained(x[even], positive[even]).says(x[asked])
    return says
