"""The few statistics every score needs: AUROC with ties, bootstrap and Wilson intervals, Fisher's exact test."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
BOOTSTRAPS = 1000


class Interval(NamedTuple):
    """A value and its 95 % interval; low <= value <= high."""

    value: float
    low: float
    high: float


def auroc(positive: Sequence[float] | np.ndarray, negative: Sequence[float] | np.ndarray) -> float:
    """Probability that a positive outscores a negative, ties counting half (Hanley & McNeil 1982).

    Ranks are averaged over ties, so constant scores give exactly 0.5. Raises ValueError when a side is empty.
    """
    n_pos, n_neg = len(positive), len(negative)
    if not n_pos or not n_neg:
        raise ValueError("AUROC needs at least one positive and one negative")
    return float(_aurocs(np.asarray(positive, float)[None], np.asarray(negative, float)[None])[0])


def _aurocs(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """AUROC of each row of [rows, n_pos] against the same row of [rows, n_neg]."""
    from scipy.stats import rankdata  # a second to import

    n_pos, n_neg = positive.shape[1], negative.shape[1]
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    sums: np.ndarray = (ranks[:, :n_pos].sum(axis=1) - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)
    return sums


def auroc_interval(
    positive: Sequence[float] | np.ndarray, negative: Sequence[float] | np.ndarray, rng: np.random.Generator
) -> Interval:
    """AUROC and its 95 % interval.

    The interval is the union of the stratified percentile bootstrap (Efron 1979) and the Hanley-McNeil (1982, eq. 2)
    normal interval at an AUROC shrunk by half a pair: with perfectly separated small samples the bootstrap alone would
    have width 0 and claim certainty that ten snippets cannot give.
    """
    pos, neg = np.asarray(positive, float), np.asarray(negative, float)
    value = auroc(pos, neg)
    draws = _aurocs(rng.choice(pos, (BOOTSTRAPS, len(pos))), rng.choice(neg, (BOOTSTRAPS, len(neg))))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    pairs = len(pos) * len(neg)
    a = (value * pairs + 0.5) / (pairs + 1)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (len(pos) - 1) * (q1 - a * a) + (len(neg) - 1) * (q2 - a * a)) / pairs
    half = 1.959964 * math.sqrt(max(variance, 0.0))
    return Interval(value, max(0.0, min(value, float(low), a - half)), min(1.0, max(value, float(high), a + half)))


def wilson(successes: float, n: int) -> Interval:
    """A share and its 95 % Wilson score interval (Wilson 1927). Raises ValueError when n is 0.

    A trial may be a share itself: such trials vary less than hits and misses of the same mean, so that the interval is
    at most too wide.
    """
    if n < 1:
        raise ValueError("a share needs at least one trial")
    z = 1.959964
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """The probability of `hits` or more among n, had the hits been dealt out by chance among n and other_n: Fisher's
    exact test, one-sided (Fisher 1935)."""
    total, found = n + other_n, hits + other_hits
    ways = sum(math.comb(found, k) * math.comb(total - found, n - k) for k in range(hits, min(n, found) + 1))
    return ways / math.comb(total, n)


def binomial(hits: int, n: int, chance: float) -> float:
    """The probability of `hits` or more among n, each a hit with probability `chance`."""
    return min(1.0, sum(math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(hits, n + 1)))


def balanced_accuracy(positive: Sequence[float] | np.ndarray, negative: Sequence[float] | np.ndarray) -> Interval:
    """Mean of the shares of positives above 0 and of negatives at or below it, with its 95 % interval.

    The interval joins the two Wilson intervals by the square of their distances (Newcombe 1998, method 10).
    Raises ValueError when a side is empty.
    """
    hits = wilson(int(np.sum(np.asarray(positive) > 0)), len(positive))
    passes = wilson(int(np.sum(np.asarray(negative) <= 0)), len(negative))
    value = (hits.value + passes.value) / 2
    below = math.hypot(hits.value - hits.low, passes.value - passes.low) / 2
    above = math.hypot(hits.high - hits.value, passes.high - passes.value) / 2
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Mean of several values with its 95 % interval, within [0, 1]; ValueError when there are none.

    The half-width is the larger of Student's over the values and of what their own intervals' half-widths add up to, so
    that a few values that happen to agree do not look certain.
    """
    n = len(intervals)
    if not n:
        raise ValueError("a mean needs at least one value")
    values = np.array([each.value for each in intervals])
    own = math.sqrt(sum(max(each.value - each.low, each.high - each.value) ** 2 for each in intervals)) / n
    spread = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0
    mean, half = float(values.mean()), max(own, spread)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))
