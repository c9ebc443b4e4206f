"""Directions from labelled or unlabelled activations, and the baselines that a direction must beat."""

from typing import Literal, NamedTuple

import numpy as np

from tools.workbench.estimators import Probe, logistic
from tools.workbench.stats import Interval, auroc, auroc_interval

Method = Literal["mean_difference", "logistic", "pca", "kmeans"]
SHUFFLES = 20
RANDOMS = 20


class Held(NamedTuple):
    """AUROC on texts that the direction was not fitted on: its own, and of what needs no insight."""

    own: Interval
    logistic: float  # a probe on the whole activation
    shuffled: float  # the same method on shuffled labels, mean of twenty
    random: float  # random directions, the median of twenty, each turned as the training texts say
    coordinate: float  # the best single coordinate of the activation on the training texts


def fit(method: Method, x: np.ndarray, positive: np.ndarray, seed: int) -> Probe:
    """The direction of activations x [n, d] by a method; positive: bool[n], read by pca and kmeans for the sign alone.

    Sources: mean difference and logistic, Marks & Tegmark 2310.06824; PCA and k-means, Tigges et al. 2310.15154.
    """
    match method:
        case "mean_difference":
            vector = x[positive].mean(0) - x[~positive].mean(0)
        case "logistic":
            return logistic(x, positive)
        case "pca":
            vector = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][0]
        case "kmeans":
            from sklearn.cluster import KMeans

            means = KMeans(2, n_init=10, random_state=seed).fit(x).cluster_centers_
            vector = means[1] - means[0]
    length = float(np.linalg.norm(vector))
    if length == 0:
        raise ValueError("the activations do not vary")
    vector = vector / length
    projections = x @ vector
    if _gap(projections, positive) < 0:
        vector, projections = -vector, -projections
    centre = (projections[positive].mean() + projections[~positive].mean()) / 2
    return Probe(vector, abs(_gap(projections, positive)), float(centre), 0.0)


def held_out(
    method: Method,
    probe: Probe,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> Held:
    """AUROC of the probe and its baselines on `test` = (x [n, d], positive bool[n])."""
    x, positive = train
    d = x.shape[1]

    def score(vector: np.ndarray) -> float:
        projections = test[0] @ vector
        return auroc(projections[test[1]], projections[~test[1]])

    projections = test[0] @ probe.vector
    shuffled = []
    for _ in range(SHUFFLES):
        labels = rng.permutation(positive)
        shuffled.append(score(fit(method, x, labels, 0).vector))
    random = [score(vector * np.sign(_gap(x @ vector, positive))) for vector in rng.normal(size=(RANDOMS, d))]
    gap = x[positive].mean(0) - x[~positive].mean(0)
    best = int(np.argmax(np.abs(gap) / (x.std(0) + 1e-9)))
    return Held(
        own=auroc_interval(projections[test[1]], projections[~test[1]], rng),
        logistic=score(logistic(x, positive).vector),
        shuffled=float(np.mean(shuffled)),
        random=float(np.median(random)),
        coordinate=score(np.eye(d)[best] * np.sign(gap[best])),
    )


def _gap(projections: np.ndarray, positive: np.ndarray) -> float:
    return float(projections[positive].mean() - projections[~positive].mean())
