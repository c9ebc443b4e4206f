"""Whether a plane of activations is one feature of two dimensions, or two of one (Engels et al. 2405.14860, section 3).

Of points f [n, 2], turned by R(t), the separability index is

    S(f) = min over t of I(a; b),  (a, b) = R(t) f                                                   (bits)

0 where some rotation makes the coordinates independent, and the epsilon-mixture index

    M(f) = max over unit v and real c of P(|v . f + c| < epsilon sqrt(E[(v . f + c)^2]))

near 1 where nearly all points lie on one line, as those of two features that are never active together. What is
irreducible has a high S and a low M. Both are too high where points are few, so each has its control beside it. The
points of a few words lie close about as many places, which no rotation separates wherever they are: such an S says
something only beside that of other words.

How to use it: `irreducible(points, rng)`, whose `index` ranks planes by (1 - M) S, as the paper's code does.
"""

import numpy as np

from tools.workbench.registry import ToolOutput

EPSILON = 0.1
QUARTER = np.linspace(0, np.pi / 2, 30, endpoint=False)  # a quarter turn exchanges the coordinates
HALF = np.linspace(0, np.pi, 60, endpoint=False)
PER_CELL = 2  # points that a cell of the histogram holds in the mean, so far as its bins allow
BINS = (3, 10)  # of each coordinate, fewest and most; the paper takes 10
CENTRES = 128  # points tried as the middle and as either end of a strip
DRAWS = 20
LEAST = 25  # points
FLAT = 1e-9  # of the larger variance: points on a line


class Irreducible(ToolOutput):
    """separability: S in bits; exchanged: mean S where one coordinate is exchanged among the n points, at the rotation
    that separates them best, and p: the share of twenty such draws that reach S, one added to both sides. mixture: M;
    normal: mean M of as many normal points of the same covariance. index: (1 - M) times what S is above `exchanged`."""

    n: int
    separability: float
    exchanged: float
    p: float
    mixture: float
    normal: float
    index: float

    @property
    def words(self) -> str:
        """For a verdict."""
        return (
            f"separability {self.separability:.2f} bits (coordinates exchanged {self.exchanged:.2f}, p {self.p:.2g}), "
            f"mixture {self.mixture:.2f} (normal points {self.normal:.2f})"
        )


def irreducible(points: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> Irreducible | None:
    """Both indices of points [n, 2] with their controls; None of fewer than 25 points and of points on a line."""
    if len(points) < LEAST:
        return None
    points = points - points.mean(0)
    variances, axes = np.linalg.eigh(points.T @ points / len(points))
    if variances[0] < FLAT * variances[1]:
        return None
    points = points @ axes  # so that the rotation that leaves no correlation is among those tried
    found = mutual_information(points)
    own, mixed = float(found.min()), mixture(points)
    turned = points @ _turn(QUARTER[int(found.argmin())]).T
    exchanged = [
        float(mutual_information(np.column_stack([turned[:, 0], rng.permutation(turned[:, 1])])).min())
        for _ in range(draws)
    ]
    normal = [mixture(rng.normal(size=points.shape) * np.sqrt(variances)) for _ in range(draws)]
    return Irreducible(
        n=len(points),
        separability=own,
        exchanged=float(np.mean(exchanged)),
        p=(1 + sum(each >= own for each in exchanged)) / (1 + draws),
        mixture=mixed,
        normal=float(np.mean(normal)),
        index=(1 - mixed) * max(0.0, own - float(np.mean(exchanged))),
    )


def mutual_information(points: np.ndarray) -> np.ndarray:
    """float64[angles], bits: I(a; b) of points [n, 2] turned by each angle, from a histogram of equal bins."""
    n = len(points)
    bins = int(np.clip(round((n / PER_CELL) ** 0.5), *BINS))
    turned = np.einsum("kij,nj->kni", np.stack([_turn(angle) for angle in QUARTER]), points)
    low, high = turned.min(1, keepdims=True), turned.max(1, keepdims=True)
    cell = np.minimum((turned - low) / (high - low) * bins, bins - 1).astype(int)
    flat = (np.arange(len(QUARTER))[:, None] * bins + cell[..., 0]) * bins + cell[..., 1]
    joint = np.bincount(flat.ravel(), minlength=len(QUARTER) * bins**2).reshape(-1, bins, bins) / n
    product = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    return np.asarray((joint * np.log2(ratio)).sum((1, 2)))


def mixture(points: np.ndarray, epsilon: float = EPSILON) -> float:
    """M of points [n, 2]: strips across each of sixty directions, about points and with an end at points."""
    best = 0
    for angle in HALF:
        along = np.sort(points @ np.array([np.cos(angle), np.sin(angle)]))
        at = along[np.linspace(0, len(along) - 1, min(CENTRES, len(along))).astype(int)]
        reach = epsilon * _root_mean_square(along, at)
        middle = np.concatenate([at, at - reach, at + reach])
        half = epsilon * _root_mean_square(along, middle)
        inside = np.searchsorted(along, middle + half) - np.searchsorted(along, middle - half, side="right")
        best = max(best, int(inside.max()))
    return best / len(points)


def _root_mean_square(along: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Of the distances of points [n] from each middle [m]: [m]."""
    return np.asarray(np.sqrt(along.var() + (along.mean() - middle) ** 2))


def _turn(angle: float) -> np.ndarray:
    """[2, 2]: rotates points."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
