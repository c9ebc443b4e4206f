"""Whether words of a known order lie on a circle or a line in a plane of activations (Engels et al. 2405.14860).

How to use it: `plane(x)` of items' mean activations, `placed` on it, `neighbours` for the order, `chance` for it, and
`chance_where_best` for the order at the layer that was chosen among several.
"""

from collections.abc import Sequence
from math import factorial
from typing import Literal

import numpy as np

Shape = Literal["circle", "line"]
PERMUTATIONS = 5000
EXACT = 9  # items up to which a perfect order's chance is told exactly


def plane(x: np.ndarray) -> tuple[np.ndarray, float]:
    """float64[2, d]: the first two principal components of x [items, d], and the share of the variance in them."""
    _, sizes, components = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return components[:2], float((sizes[:2] ** 2).sum() / (sizes**2).sum())


def order_on(points: np.ndarray, shape: Shape) -> np.ndarray:
    """int64[items]: the items of points [items, 2] as they come around the centre, or along the first axis."""
    if shape == "line":
        return np.argsort(points[:, 0])
    centred = points - points.mean(0)
    return np.argsort(np.arctan2(centred[:, 1], centred[:, 0]))


def neighbours(order: np.ndarray, shape: Shape) -> float:
    """The share of items next to each other in `order` that are next to each other by number; 1 is perfect, in either
    sense of rotation and from any start."""
    return float(_neighbours(order[None], shape)[0])


def _neighbours(orders: np.ndarray, shape: Shape) -> np.ndarray:
    """float64[m] of int64[m, n]."""
    closed = np.concatenate([orders, orders[:, :1]], axis=1) if shape == "circle" else orders
    steps = np.abs(np.diff(closed))
    near = (steps == 1) | (steps == orders.shape[1] - 1) if shape == "circle" else steps == 1
    return np.asarray(near.mean(1))


def chance(score: float, n: int, shape: Shape, rng: np.random.Generator) -> float:
    """The probability that n items in random order score as much: counted where a perfect score is asked of few, else
    the share of random orders, one added to both sides."""
    if score == 1.0 and n <= EXACT:
        return (2 * n if shape == "circle" else 2) / factorial(n)
    return _at_least(_neighbours(_names(n, rng), shape), score)


def chance_where_best(
    fitted: Sequence[np.ndarray], held: Sequence[np.ndarray], score: float, shape: Shape, rng: np.random.Generator
) -> float:
    """The probability that items in random order score as much at the best of several places, where the same items are
    read again. fitted, held: int64[n] of each place, the items' order on the texts that it is chosen by and on the
    others, the place that is taken among equals first."""
    if len(fitted) == 1:
        return chance(score, len(held[0]), shape, rng)
    names = _names(len(held[0]), rng)
    chosen = np.stack([_neighbours(names[:, order], shape) for order in fitted]).argmax(0)
    again = np.stack([_neighbours(names[:, order], shape) for order in held])
    return _at_least(again[chosen, np.arange(PERMUTATIONS)], score)


def _names(n: int, rng: np.random.Generator) -> np.ndarray:
    """int64[permutations, n]: each row n items in random order."""
    return rng.permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)


def _at_least(drawn: np.ndarray, score: float) -> float:
    return float((1 + (drawn >= score - 1e-9).sum()) / (1 + len(drawn)))


def radius_variation(points: np.ndarray) -> float:
    """Standard deviation over mean of the points' distances from their centre: 0 on a circle."""
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    return float(radii.std() / radii.mean())


def placed(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """float64[items, 2]: where x [items, d] lie on a plane's axes [2, d]."""
    return np.asarray(x @ axes.T)
