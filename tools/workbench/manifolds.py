"""Whether words of a known order lie on a circle or a line in a plane of activations (Engels et al. 2405.14860).

How to use it: `plane(x)` of items' mean activations, `placed` on it, `neighbours` for the order and `chance` for it.
"""

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
    """The share of items next to each other by number that are next to each other in `order`; 1 is perfect, in either
    sense of rotation and from any start."""
    n = len(order)
    place = np.empty(n, int)
    place[order] = np.arange(n)
    steps = np.abs(np.diff(np.append(place, place[0]) if shape == "circle" else place))
    near = (steps == 1) | (steps == n - 1) if shape == "circle" else steps == 1
    return float(near.mean())


def chance(score: float, n: int, shape: Shape, rng: np.random.Generator) -> float:
    """The probability that n items in random order score as much: counted where a perfect score is asked of few, else
    the share of random orders, one added to both sides."""
    if score == 1.0 and n <= EXACT:
        return (2 * n if shape == "circle" else 2) / factorial(n)
    drawn = [neighbours(rng.permutation(n), shape) for _ in range(PERMUTATIONS)]
    return (1 + sum(each >= score for each in drawn)) / (1 + PERMUTATIONS)


def radius_variation(points: np.ndarray) -> float:
    """Standard deviation over mean of the points' distances from their centre: 0 on a circle."""
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    return float(radii.std() / radii.mean())


def placed(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """float64[items, 2]: where x [items, d] lie on a plane's axes [2, d]."""
    return np.asarray(x @ axes.T)
