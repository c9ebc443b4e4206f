"""Effects of patches as shares of the gap between clean and corrupted, with their intervals and their bar."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from tools.workbench.causal import stands_clear
from tools.workbench.stats import CONFIDENCE

EQUAL = 1e-4  # metrics that differ less are equal


class Share(NamedTuple):
    """How far a patch moves a metric on its way from the run's own value (0) to the other run's (1), with a 95 %
    interval over pairs (None for one pair). All None where both runs' metrics are equal: there is no way to go."""

    effect: float | None
    low: float | None
    high: float | None


def share(change: np.ndarray, gap: np.ndarray) -> Share:
    """Mean change [n] over mean gap [n], a ratio estimator (Cochran 1977, section 6.4): its interval is Student's over
    what the ratio leaves of each pair's change, so that it is 0 wide where every pair moves by the same share."""
    whole = float(gap.mean())
    if abs(whole) < EQUAL:
        return Share(None, None, None)
    ratio = float(change.mean()) / whole
    n = len(change)
    if n < 2:
        return Share(ratio, None, None)
    left = change - ratio * gap
    half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1) * left.std(ddof=1) / (np.sqrt(n) * abs(whole)))
    return Share(ratio, ratio - half, ratio + half)


def share_stands_clear(change: np.ndarray, controls: Sequence[np.ndarray], gap: np.ndarray) -> bool:
    """`stands_clear` of shares of the gap, by the intervals that are told of them; of changes where both runs' metrics
    are equal. Pairs whose gaps differ move by different amounts where all move by the same share."""
    whole = float(gap.mean())
    if abs(whole) < EQUAL:
        return stands_clear(change, controls)
    return stands_clear(change, controls, lambda values: share(values, np.sign(whole) * gap).low)
