"""Welch's t of every latent between two kinds of rows, and how high it gets by chance alone."""

import numpy as np


def centred(x: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """float64[n, latents]: x less the mean of its kind, so that what tells kinds apart has no say."""
    found = np.asarray(x, np.float64)
    for each in np.unique(kind):
        found = np.where((kind == each)[:, None], found - found[kind == each].mean(0), found)
    return found


def welch(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[m, latents]: of x [n, latents] where bool[m, n] is true against where it is not (Welch 1947); 0 where a
    latent does not vary. Each row of labels holds two of either kind at least."""
    squares, sums = np.square(x), []
    for side in (labels.astype(float), (~labels).astype(float)):
        n = side.sum(1, keepdims=True)
        mean = side @ x / n
        variance = np.maximum(side @ squares / n - np.square(mean), 0) * n / (n - 1)
        sums.append((mean, variance / n))
    (mean, error), (other, its_error) = sums
    spread = np.sqrt(error + its_error)
    found: np.ndarray = np.divide(mean - other, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    return found


def exchanged(labels: np.ndarray, kind: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """bool[n, rows]: labels exchanged at random within each kind."""
    found = np.tile(labels, (n, 1))
    for each in np.unique(kind):
        rows = np.flatnonzero(kind == each)
        found[:, rows] = rng.permuted(found[:, rows], axis=1)
    return found
