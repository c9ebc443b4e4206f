"""Whether probabilities mean what they say: Platt's scaling, reliability bins, expected calibration error."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.registry import ToolOutput
from tools.workbench.stats import wilson

BINS = 10


class Bin(ToolOutput):
    """The items whose probability lies from low to high: their mean probability, and the share of them that are
    positive with its 95 % interval (Wilson)."""

    low: float
    high: float
    count: int
    mean: float
    share: float
    share_low: float
    share_high: float


def reliability(probability: np.ndarray, positive: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over [0, 1] that hold an item; probability: float[n], positive: bool[n]."""
    at = np.minimum((np.asarray(probability, float) * bins).astype(int), bins - 1)
    found = []
    for i in range(bins):
        rows = at == i
        if not rows.any():
            continue
        share = wilson(int(positive[rows].sum()), int(rows.sum()))
        found.append(
            Bin(
                low=i / bins,
                high=(i + 1) / bins,
                count=int(rows.sum()),
                mean=float(probability[rows].mean()),
                share=share.value,
                share_low=share.low,
                share_high=share.high,
            )
        )
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean over items of |mean probability - share| of their bin (Naeini et al. 2015).

    Raises ValueError when there are no items.
    """
    n = sum(each.count for each in bins)
    if not n:
        raise ValueError("a calibration error needs at least one item")
    return sum(each.count * abs(each.mean - each.share) for each in bins) / n


def platt(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the log-odds as a line over scores [n], by maximum likelihood (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    scale = float(np.std(scores)) or 1.0
    model = LogisticRegression(C=1e6).fit(np.asarray(scores, float)[:, None] / scale, positive)
    return float(model.coef_[0, 0]) / scale, float(model.intercept_[0])
