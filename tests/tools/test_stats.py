"""The statistics against closed forms and brute force."""

import numpy as np
import pytest

from tools.workbench.stats import auroc, auroc_interval, wilson


def test_auroc_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, 30), rng.integers(-1, 4, 40)  # many ties
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_of_a_constant_is_chance_and_of_an_oracle_is_one() -> None:
    assert auroc([3.0] * 7, [3.0] * 5) == 0.5
    assert auroc([1, 2, 3], [-1, 0]) == 1.0
    assert auroc([-1, 0], [1, 2, 3]) == 0.0


def test_auroc_refuses_a_missing_side() -> None:
    with pytest.raises(ValueError, match="at least one"):
        auroc([], [1.0])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = 0.760  # of N(1, 1) against N(0, 1): Phi(1 / sqrt 2)
    held = 0
    for _ in range(200):
        interval = auroc_interval(rng.normal(1, 1, 20), rng.normal(0, 1, 20), rng)
        held += interval.low <= truth <= interval.high
    assert held / 200 >= 0.92


def test_a_perfect_small_sample_claims_no_certainty() -> None:
    interval = auroc_interval([1.0] * 5, [0.0] * 5, np.random.default_rng(0))
    assert interval.value == interval.high == 1.0
    assert interval.low < 0.95


def test_wilson_matches_a_worked_example() -> None:
    interval = wilson(8, 10)  # Wilson 1927: 0.490 to 0.943
    assert interval.low == pytest.approx(0.4902, abs=1e-4)
    assert interval.high == pytest.approx(0.9433, abs=1e-4)
