"""Latents that fire on known entities and not on unknown ones, or the reverse, in every type of entity."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.probing.knowledge import Asked
from tools.probing.risk_rows import spots
from tools.workbench.activations import Case, read_activations
from tools.workbench.context import Context
from tools.workbench.hidden import densities
from tools.workbench.registry import ToolError
from tools.workbench.sites import At

DENSE = 0.02  # of the tokens of general text: a latent that fires on more is not about knowledge
LEAST = 5  # entities of a type that are known, and unknown


class Firing(NamedTuple):
    """activations: float32[n, n_latents] at each entity's last token; residual: float[n, d], what they are read from.
    known: bool[n]. kind: which type each is of. density: float64[n_latents], of general text, and what text it was."""

    activations: np.ndarray
    residual: np.ndarray
    known: np.ndarray
    kind: np.ndarray
    density: np.ndarray
    text: str


def firing(context: Context, found: Sequence[Asked]) -> tuple[Firing, list[Asked]]:
    """At entities that are known or unknown, and which these are: where the last token is a sink, which carries none of
    the text, an entity is left out. ToolError where no type has enough of both."""
    subject = context.subject
    layer = subject.layer_of(subject.hook)
    sites: list[At] = [("latent", layer), ("resid_pre", layer)]
    cases = [Case(tuple(place.tokens), (place.last,), (place.last,)) for place in spots(context, found)]
    readings = read_activations(context, cases, sites)
    values, residual = (readings.values[site][readings.read] for site in sites)
    kept = [each for each, read in zip(found, readings.read, strict=True) if read]
    density = densities(context)
    known = np.array([each.known is True for each in kept])
    kind = np.array([each.relation for each in kept])
    if not kinds(known, kind):
        raise ToolError(
            f"No type of entity has {LEAST} that {subject.name} knows and {LEAST} that it does not: give more of them."
        )
    return Firing(values, residual, known, kind, density.density, density.of), kept


def kinds(known: np.ndarray, kind: np.ndarray) -> list[str]:
    """The types with enough entities of both."""
    return [
        str(each)
        for each in dict.fromkeys(kind.tolist())
        if min((known & (kind == each)).sum(), (~known & (kind == each)).sum()) >= LEAST
    ]


def separations(fires: np.ndarray, known: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """float64[types, n_latents]: how much more often each latent fires on known entities of a type than on unknown."""
    return np.array(
        [fires[(kind == each) & known].mean(0) - fires[(kind == each) & ~known].mean(0) for each in kinds(known, kind)]
    )


def ranked(separation: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[n_latents] each: the least separation over types towards known, and towards unknown; -1 for latents that
    fire on too much of general text (Ferrando et al. 2411.14257, section 3)."""
    dense = density > DENSE
    return np.where(dense, -1, separation.min(0)), np.where(dense, -1, (-separation).min(0))


def permuted(one: Firing, rng: np.random.Generator, n: int) -> np.ndarray:
    """float64[n, 2]: the highest scores of any latent, towards known and unknown, where labels are exchanged at random
    within each type."""
    each = []
    for name in kinds(one.known, one.kind):
        rows = one.kind == name
        known = np.array([rng.permutation(one.known[rows]) for _ in range(n)])
        weights = known / known.sum(1, keepdims=True) - ~known / (~known).sum(1, keepdims=True)
        each.append(weights @ (one.activations[rows] > 0))
    separation = np.stack(each)[:, :, one.density <= DENSE]
    return np.column_stack([separation.min(0).max(1), (-separation.max(0)).max(1)])
