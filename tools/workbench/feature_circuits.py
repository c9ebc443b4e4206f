"""What a sparse feature circuit is made of and what it does: nodes by effect, exact checks, faithfulness.

How to use it: `node_effects` estimates every node that moves, `verify` patches some of them exactly, `circuit_does`
runs a circuit alone and leaves it out, `edges_among` weighs its edges. All take the `Features` of pairs of each length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from tools.workbench.feature_edges import Weight, edge_weights
from tools.workbench.features import ERROR, Features, Mask, Node, complement, mask_of, nodes_of, run_features
from tools.workbench.patching import Progress
from tools.workbench.shares import EQUAL
from tools.workbench.verifying import by_chance, rank_correlation

RANDOMS = 3  # random circuits of as many latents


class Effects(NamedTuple):
    """nodes: those that differ between the prompts of any pair, strongest first. means: float64[nodes], each one's part
    of what all of its point do to the metric when they are corrupted together (integrated gradients); gradients: the
    estimate of what it does alone; the same where no steps are taken. sums: for each point float64[n], of all its
    nodes. none: the mask of no node."""

    nodes: list[Node]
    means: np.ndarray
    gradients: np.ndarray
    sums: list[np.ndarray]
    none: Mask


def node_effects(parts: Sequence[Features], by_position: bool, steps: int, progress: Progress) -> Effects:
    """The estimates of every node."""
    moving = [torch.stack(of).any(0) for of in zip(*(part.moving(by_position) for part in parts), strict=True)]
    nodes = nodes_of(moving)
    over: tuple[int, ...] = (0,) if by_position else (0, 1)

    def means(found: Sequence[Sequence[torch.Tensor]]) -> np.ndarray:
        by_point = [
            torch.stack([each.sum(over) for each in of]).sum(0).reshape(mask.shape)
            for of, mask in zip(zip(*found, strict=True), moving, strict=True)
        ]
        n = sum(part.n for part in parts)
        return np.array([float(by_point[node.point][node.place, node.unit]) / n for node in nodes])

    plain = [part.attributed(0, progress) for part in parts]
    found = [part.attributed(steps, progress) for part in parts] if steps else plain
    values, gradients = means(found), means(plain)
    order = np.argsort(-np.abs(values), kind="stable")
    sums = [torch.cat([each.sum((1, 2)) for each in of]).double().numpy() for of in zip(*found, strict=True)]
    return Effects([nodes[i] for i in order], values[order], gradients[order], sums, parts[0].nothing(by_position))


class Verified(NamedTuple):
    """tested: places among the nodes, the strongest first, then those drawn. exact: float64[tested, n], the measured
    change of the metric. Spearman's with the exact changes: of the estimates (correlation; over the drawn: on_sample)
    and of the gradients (gradient; when nodes move as far the other way: flipped; dealt out to others: permuted)."""

    tested: list[int]
    exact: np.ndarray
    correlation: float | None
    on_sample: float | None
    gradient: float | None
    flipped: float | None
    permuted: float | None


def verify(
    parts: Sequence[Features], effects: Effects, top: int, sample: int, rng: np.random.Generator, progress: Progress
) -> Verified:
    """The strongest nodes and a random sample of the others, each patched alone."""
    drawn = top + rng.permutation(len(effects.nodes[top:]))[:sample]
    tested = [*range(min(top, len(effects.nodes))), *map(int, drawn)]
    masks = [mask_of([effects.nodes[i]], effects.none) for i in tested]
    own = np.concatenate([part.own for part in parts])
    exact = run_features(parts, masks, progress=progress) - own
    turned = run_features(parts, masks, -1.0, progress) - own
    guesses, slopes, means = effects.means[tested], effects.gradients[tested], exact.mean(1)
    return Verified(
        tested=tested,
        exact=exact,
        correlation=rank_correlation(guesses, means),
        on_sample=rank_correlation(guesses[top:], means[top:]),
        gradient=rank_correlation(slopes, means),
        flipped=rank_correlation(slopes, turned.mean(1)),
        permuted=by_chance(slopes, means, rng),
    )


class Does(NamedTuple):
    """The metric, float64[n], with all nodes corrupted but: none (nothing), the circuit's (alone), its latents, its
    errors, those of random circuits [RANDOMS, n]. without: with the circuit's nodes corrupted; spliced: with every node
    set to what it is; wholes: for each point, with all of its nodes corrupted."""

    nothing: np.ndarray
    alone: np.ndarray
    latents: np.ndarray
    errors: np.ndarray
    randoms: np.ndarray
    without: np.ndarray
    spliced: np.ndarray
    wholes: list[np.ndarray]


def circuit_does(
    parts: Sequence[Features], effects: Effects, circuit: Sequence[Node], rng: np.random.Generator, progress: Progress
) -> Does:
    """What the circuit does alone, beside random ones of as many latents at each point and the same error nodes."""
    like = effects.none
    errors = [node for node in circuit if node.unit == ERROR]
    latents = [node for node in circuit if node.unit != ERROR]
    kept: list[Sequence[Node]] = [(), circuit, latents, errors]
    kept += [[*errors, *_drawn(effects, latents, rng)] for _ in range(RANDOMS)]
    masks = [complement(mask_of(nodes, like)) for nodes in kept]
    masks.append(mask_of(circuit, like))
    whole = complement(like)
    masks += [[all_of if at == point else none for at, (all_of, none) in enumerate(zip(whole, like, strict=True))]
              for point in range(len(like))]  # fmt: skip
    values = run_features(parts, masks, progress=progress)
    (spliced,) = run_features(parts, [whole], 0.0)
    cut = 4 + RANDOMS
    nothing, alone, only_latents, only_errors = values[:4]
    randoms, without, wholes = values[4:cut], values[cut], list(values[cut + 1 :])
    return Does(nothing, alone, only_latents, only_errors, randoms, without, spliced, wholes)


def edges_among(
    parts: Sequence[Features], circuit: Sequence[Node], by_position: bool, progress: Progress
) -> list[Weight]:
    """The circuit's edges, strongest first, those that carry nothing left out."""
    n = sum(part.n for part in parts)
    sums: dict[tuple[Node, Node | None], float] = {}
    for part in parts:
        for sender, receiver, weight in edge_weights(part, circuit, by_position, progress):
            sums[sender, receiver] = sums.get((sender, receiver), 0.0) + weight * part.n / n
    found = [Weight(*ends, weight) for ends, weight in sums.items() if weight]
    return sorted(found, key=lambda each: -abs(each.weight))


def incomplete(summed: np.ndarray, whole: np.ndarray) -> float | None:
    """Mean size over pairs of what estimates leave out or add, over that of the change; None where nothing changes."""
    scale = float(np.abs(whole).mean())
    return None if scale < EQUAL else float(np.abs(summed - whole).mean()) / scale


def _drawn(effects: Effects, latents: Sequence[Node], rng: np.random.Generator) -> list[Node]:
    """As many other latents of each point as the circuit has there, or all where there are fewer."""
    found: list[Node] = []
    inside = set(latents)
    for point in sorted({node.point for node in latents}):
        free = [n for n in effects.nodes if n.point == point and n.unit != ERROR and n not in inside]
        wanted = sum(node.point == point for node in latents)
        found += [free[i] for i in rng.permutation(len(free))[:wanted]]
    return found
