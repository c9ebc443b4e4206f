"""Splits that no entity or document straddles: of each class some groups are held out, and never a part of one."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.registry import ToolError

HELD_OUT = 0.3  # of each class
FOLDS = 5


def groups_of(names: Sequence[str]) -> np.ndarray:
    """int64[n]: equal for equal names, in the order of their first appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names])


def held_out(positive: np.ndarray, groups: np.ndarray, rng: np.random.Generator, share: float = HELD_OUT) -> np.ndarray:
    """bool[n]: what is held out, whole groups: about `share` of those of each class and of those that hold both.
    positive: bool[n]; groups: int64[n].

    ToolError when a class has too few groups for both sides.
    """
    test = np.zeros(len(positive), bool)
    shares = {int(group): float(positive[groups == group].mean()) for group in np.unique(groups)}
    for kind in ({0.0}, {1.0}, set(shares.values()) - {0.0, 1.0}):
        own = rng.permutation([group for group, own in shares.items() if own in kind])
        if len(own) > 1:
            test |= np.isin(groups, own[: max(1, round(share * len(own)))])
    if any(len(np.unique(positive[rows])) < 2 for rows in (test, ~test)):
        raise ToolError(
            f"The {len(positive)} texts are of {len(shares)} entities or documents, too few to hold whole ones of "
            "either kind out: give at least 2 of each."
        )
    assert_disjoint(groups, test)
    return test


def folds(positive: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and to grade on, of up to five folds that no group straddles, each with both classes."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(groups[positive])), len(np.unique(groups[~positive])))
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    found = list(splitter.split(np.zeros(len(positive)), positive, groups))
    return [(fit, grade) for fit, grade in found if all(len(np.unique(positive[rows])) == 2 for rows in (fit, grade))]


def shuffled(positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels bool[n] dealt anew, as many positive ones as before in either class, so that they say nothing of the true
    labels: chance alone would often let them say a little, and a probe of few texts much."""
    labels = np.zeros(len(positive), bool)
    share = float(positive.mean())
    for side in (positive, ~positive):
        rows = rng.permutation(np.flatnonzero(side))
        labels[rows[: round(share * len(rows))]] = True
    return labels


def assert_disjoint(groups: np.ndarray, test: np.ndarray) -> None:
    """Raises AssertionError when a group is on both sides."""
    both = np.intersect1d(groups[test], groups[~test])
    assert not len(both), f"groups {both[:5].tolist()} are on both sides of the split"
