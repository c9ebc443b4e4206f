"""ACDC: edges are taken away one after another, and stay away where that changes the metric by less than a threshold.

Receivers from the logits backwards, and of each its senders from the latest to the earliest (Conmy et al. 2304.14997,
algorithm 1). Edges that are no candidates go first when their receiver is reached, so that what lies below is as on the
clean prompt until then and is not computed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.workbench.edges import Edges, run_edges
from tools.workbench.patching import Progress

Place = tuple[int, int]  # receiver, sender


@dataclass(frozen=True, eq=False)
class Pruned:
    """kept: bool[receivers, senders] among those decided; decided: how many of the candidates, in order; value: mean
    metric of what is left, where all that is not decided is whole."""

    kept: Tensor
    decided: int
    value: float


def in_order(exists: Tensor, candidates: Tensor | None = None) -> list[Place]:
    """The edges in the order in which they are tried."""
    chosen = exists if candidates is None else exists & candidates
    places = [(int(r), int(s)) for r, s in chosen.nonzero().tolist()]
    return sorted(places, reverse=True)


def prune(
    parts: Sequence[Edges],
    order: Sequence[Place],
    tau: float,
    sign: int,
    absolute: bool = False,
    budget: int | None = None,
    kept: Sequence[Place] = (),
    decided: int = 0,
    progress: Progress = lambda done, total: None,
    noted: Callable[[Tensor, int], None] = lambda kept, decided: None,
) -> Pruned:
    """Decides the edges of `order` from the `decided`th on, `budget` of them at most; `kept` are those kept before.

    An edge goes where sign * (mean metric without it - with it) < tau, or the size of that change where `absolute`;
    sign is 1 for a metric that rises as the circuit gets worse and -1 for one that falls. noted: told what is kept, and
    of how many decided, after each edge.
    """
    exists = parts[0].exists
    found = torch.zeros_like(exists)
    for place in kept:
        found[place] = True
    corrupted = torch.zeros_like(exists)
    last = min(len(order), decided + (len(order) if budget is None else budget))
    reached = -1 if decided == 0 else order[decided - 1][0]
    for receiver, sender in order[:decided]:
        corrupted[receiver, sender] = not found[receiver, sender]
    value: float | None = None
    candidates = torch.zeros_like(exists)
    for place in order:
        candidates[place] = True
    if reached >= 0:
        corrupted[reached:] |= (exists & ~candidates)[reached:]

    def measured(mask: Tensor) -> float:
        return float(np.mean(run_edges(parts, [mask])))

    for at, (receiver, sender) in enumerate(order[decided:last], decided + 1):
        if receiver != reached:
            corrupted[receiver:] |= (exists & ~candidates)[receiver:]
            reached, value = receiver, None
        if value is None:
            value = measured(corrupted)
        corrupted[receiver, sender] = True
        without = measured(corrupted)
        change = sign * (without - value)
        if (abs(change) if absolute else change) < tau:
            value = without
        else:
            corrupted[receiver, sender] = False
            found[receiver, sender] = True
        noted(found, at)
        progress(at - decided, last - decided)
    if last == len(order):
        corrupted |= exists & ~candidates
        value = measured(corrupted)
    return Pruned(found, last, measured(corrupted) if value is None else value)
