"""Neuron-to-Graph (Foote et al. 2304.12918): a latent as a trie of the contexts that make it fire.

1. Prune: the shortest context, ending at the pivot, that keeps half of the pivot's activation.
2. Saliency: replace one token at a time; a token matters when the activation falls by at least half without it.
3. Merge: the tokens that matter, read backwards from the pivot, are a path of a trie; the others are wildcards.
4. Predict: a token's activation is that of the longest path that ends at it.

Substitutes from a masked language model, as in the paper, are not tried: a path holds only tokens that were seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from store.types import Noun

KEEP = 0.5  # of the activation: what the pruned context must keep
MATTERS = 0.5  # share of the activation lost without a token that makes it part of the path
MASKS = 3  # replacements tried for each token; their mean is the activation without it
BACK = 24  # tokens before the pivot that are looked at

ANY = -1  # wildcard

Measure = Callable[[Sequence[Sequence[int]]], list[float]]  # contexts (no BOS) -> activation on each last token


class Node(Noun):
    """`token` (-1: any) at this distance before the pivot. `value`: mean activation, as share of the graph's scale, of
    the `count` examples whose path ends here (None: none does)."""

    token: int
    value: float | None = None
    count: int = 0
    before: tuple["Node", ...] = ()


class Graph(Noun):
    """A trie whose roots are pivots, and the activation (dictionary units) that its values are shares of."""

    scale: float = Field(gt=0)
    roots: tuple[Node, ...]


@dataclass(frozen=True)
class Path:
    """One example's minimal context: tokens backwards from the pivot (ANY where they do not matter); its activation."""

    tokens: tuple[int, ...]
    activation: float


def prune(context: Sequence[int], measure: Measure, keep: float = KEEP) -> tuple[list[int], float] | None:
    """The shortest end of `context` (its last token the pivot) that keeps `keep` of the whole's activation, and its
    activation; None when the whole does not fire.

    Every length is measured in one batch, where the paper cuts until it fails.
    """
    ends = [list(context[-length:]) for length in range(1, len(context) + 1)]
    activations = measure(ends)
    if activations[-1] <= 0:
        return None
    return next((end, a) for end, a in zip(ends, activations, strict=True) if a >= keep * activations[-1])


def saliency(context: Sequence[int], activation: float, measure: Measure, masks: Sequence[int]) -> list[float]:
    """For each token, the share of the activation lost when it is replaced: 1 - (mean over `masks`) / whole."""
    masked = [[*context[:i], mask, *context[i + 1 :]] for i in range(len(context)) for mask in masks]
    without = np.array(measure(masked)).reshape(len(context), len(masks)).mean(axis=1)
    lost: list[float] = (1 - without / activation).tolist()
    return lost


def minimal_path(context: Sequence[int], measure: Measure, masks: Sequence[int]) -> Path | None:
    """The pivot, the tokens that matter and wildcards between them, backwards; None when the context does not fire."""
    pruned = prune(context, measure)
    if pruned is None:
        return None
    tokens, activation = pruned
    lost = saliency(tokens, activation, measure, masks)
    # the first token of the pruned context matters by its making: without it the activation was under half
    matters = [i in (0, len(tokens) - 1) or share >= MATTERS for i, share in enumerate(lost)]
    return Path(tuple(t if m else ANY for t, m in zip(tokens, matters, strict=True))[::-1], activation)


def merge(paths: Sequence[Path]) -> Graph:
    """The trie of the paths. Raises ValueError without any."""
    if not paths:
        raise ValueError("a graph needs at least one path")
    scale = max(path.activation for path in paths)
    return Graph(scale=scale, roots=_nodes([(path.tokens, path.activation / scale) for path in paths]))


def _nodes(ends: list[tuple[tuple[int, ...], float]]) -> tuple[Node, ...]:
    """One node for each first token of the remaining paths, by token."""
    nodes = []
    for token in sorted({tokens[0] for tokens, _ in ends}):
        mine = [(tokens[1:], value) for tokens, value in ends if tokens[0] == token]
        ending = [value for tokens, value in mine if not tokens]
        nodes.append(
            Node(
                token=token,
                value=float(np.mean(ending)) if ending else None,
                count=len(ending),
                before=_nodes([end for end in mine if end[0]]),
            )
        )
    return tuple(nodes)


def predict(graph: Graph, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
    """float64[s]: predicted activation on each token, as a share of the graph's scale; 0 where no path ends.

    Of several matching paths the longest counts, and of equally long ones the strongest.
    """
    return np.array([max(_matches(graph.roots, tokens, i, 1), default=(0, 0.0))[1] for i in range(len(tokens))])


def _matches(
    nodes: Sequence[Node], tokens: Sequence[int] | np.ndarray, at: int, length: int
) -> list[tuple[int, float]]:
    """(length, value) of every path through `nodes` that the tokens up to `at` complete."""
    if at < 0:
        return []
    found = []
    for node in nodes:
        if node.token in (ANY, tokens[at]):
            if node.value is not None:
                found.append((length, node.value))
            found.extend(_matches(node.before, tokens, at - 1, length + 1))
    return found


def paths_of(graph: Graph) -> list[tuple[tuple[int, ...], float, int]]:
    """(tokens in reading order, value, count) of every path, the most frequent and then the strongest first."""

    def walk(nodes: Sequence[Node], after: tuple[int, ...]) -> list[tuple[tuple[int, ...], float, int]]:
        found = []
        for node in nodes:
            tokens = (node.token, *after)
            if node.value is not None:
                found.append((tokens, node.value, node.count))
            found.extend(walk(node.before, tokens))
        return found

    return sorted(walk(graph.roots, ()), key=lambda path: (-path[2], -path[1], path[0]))


def as_json(graph: Graph) -> dict[str, Any]:
    """The graph as it is stored with its explanation."""
    return graph.model_dump(mode="json")
