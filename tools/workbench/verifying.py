"""Estimates of many effects held against the exact effects of some.

How to use it: verify the strongest by estimate and a random sample of the rest exactly; `rank_correlation` and
`by_chance` say how far to trust the order, `missed_at_most` how large an effect may still hide among those that were
not verified, from exact patches of random halves of them (Kramár et al. 2403.00745, section 4).
"""

import numpy as np
from scipy.stats import spearmanr
from scipy.stats import t as student

from tools.workbench.stats import CONFIDENCE

PERMUTATIONS = 200
FEW = 4  # subsets on either side, below which nothing is said


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's of two arrays [n]; None where either is constant or n is below 3."""
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(spearmanr(a, b).statistic)


def by_chance(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> float | None:
    """Mean size of the rank correlation when one of the arrays [n] is permuted."""
    if rank_correlation(a, b) is None:
        return None
    return float(np.mean([abs(float(spearmanr(rng.permutation(a), b).statistic)) for _ in range(PERMUTATIONS)]))


def missed_at_most(inside: np.ndarray, effects: np.ndarray) -> float | None:
    """The largest size that any one's effect may have, with 95 % confidence over all of them together; None where too
    few subsets have it or lack it.

    inside: bool[m, k], which of k things were patched in each of m subsets; effects: float64[m]. One's effect is the
    mean with it less the mean without, averaged over what else is patched (Welch's interval, Bonferroni over k).
    """
    with_it = inside.sum(0)
    without = len(inside) - with_it
    if not inside.shape[1] or min(with_it.min(), without.min()) < FEW:
        return None
    means, errors = [], []
    for chosen, n in ((inside, with_it), (~inside, without)):
        mean = effects @ chosen / n
        square = ((effects[:, None] - mean) ** 2 * chosen).sum(0) / (n - 1)
        means.append(mean)
        errors.append(square / n)
    total = errors[0] + errors[1]
    freedom = total**2 / np.maximum(errors[0] ** 2 / (with_it - 1) + errors[1] ** 2 / (without - 1), 1e-300)
    quantile = student.ppf(1 - (1 - CONFIDENCE) / (2 * inside.shape[1]), np.maximum(freedom, 1))
    return float((np.abs(means[0] - means[1]) + quantile * np.sqrt(total)).max())
