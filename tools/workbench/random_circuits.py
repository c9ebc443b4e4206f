"""Random circuits that could carry a behaviour: what a circuit that was found is held against.

Of nodes: as many of the same kind from the same layers. Of edges: as many, on random paths from the embedding to the
logits, or as many into each receiver, from senders drawn at random, which read where the circuit reads. Edges drawn one
by one hardly ever join to a path, so that circuits of them do nothing whatever was found.
"""

import re

import numpy as np
import torch
from torch import Tensor

from tools.workbench.nodes import Nodes

PATIENCE = 200  # paths in a row that add no edge or too many, after which single edges are taken


def random_nodes(graph: Nodes, members: list[int], rng: np.random.Generator) -> list[int]:
    """For each sender of a circuit another of its kind, head or MLP, that the circuit has not, from the same layer or,
    where all there are taken, the nearest; fewer where the model has no more."""
    layers = [_layer(name) for name in graph.senders]
    drawn: list[int] = []
    for member in rng.permutation(members).tolist():
        kind = "MLP" in graph.senders[member]
        free = [
            at
            for at, name in enumerate(graph.senders)
            if at > 0 and ("MLP" in name) == kind and at not in members and at not in drawn
        ]
        if free:
            away = np.abs(np.array([layers[at] - layers[member] for at in free]))
            drawn.append(int(rng.choice(np.array(free)[away == away.min()])))
    return drawn


def random_edges(graph: Nodes, count: int, rng: np.random.Generator) -> Tensor:
    """bool[receivers, senders]: `count` edges of random paths, each walked from the logits back to the embedding: to
    any sender that comes before, and from there to one of the things that it reads. What the last path would exceed is
    made up by edges between nodes of the paths, and by any where those do not suffice."""
    exists = graph.exists
    chosen = torch.zeros_like(exists)
    reads = _reads(graph)
    left, vain = count, 0
    while left and vain < PATIENCE:
        path = [place for place in _path(graph, reads, rng) if not chosen[place]]
        if 0 < len(path) <= left:
            left, vain = left - len(path), 0
            for place in path:
                chosen[place] = True
        else:
            vain += 1
    senders = chosen.any(0)
    among = exists & chosen.any(1)[:, None] & senders & ~chosen
    for pool in (among, exists & ~among & ~chosen):
        places = pool.nonzero().tolist()
        for index in rng.permutation(len(places))[:left].tolist():
            chosen[tuple(places[index])] = True
        left = count - int(chosen.sum())
    return chosen


def rewired(graph: Nodes, circuit: Tensor, rng: np.random.Generator) -> Tensor:
    """bool[receivers, senders]: as many edges into each receiver as `circuit` has, each from a sender drawn at random
    from those that come before."""
    drawn = torch.zeros_like(circuit)
    for row, receiver, count in zip(drawn, graph.receivers, circuit.sum(1).tolist(), strict=True):
        row[rng.permutation(receiver.before)[:count]] = True
    return drawn


def _path(graph: Nodes, reads: list[list[int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """The edges, receiver and sender, of one path from the logits back to the embedding."""
    receiver, path = len(graph.receivers) - 1, []
    while True:
        sender = int(rng.integers(graph.receivers[receiver].before))
        path.append((receiver, sender))
        if not reads[sender]:
            return path
        receiver = int(rng.choice(reads[sender]))


def _reads(graph: Nodes) -> list[list[int]]:
    """What each sender reads by: an MLP its input, a head its query, and the key and value of its key head; the
    embedding nothing."""
    by_name = {str(receiver): at for at, receiver in enumerate(graph.receivers)}
    heads = sum(receiver.part == "q" and receiver.layer == 0 for receiver in graph.receivers)
    keys = sum(receiver.part == "k" and receiver.layer == 0 for receiver in graph.receivers)
    found: list[list[int]] = []
    for name in graph.senders:
        if head := re.fullmatch(r"L(\d+)H(\d+)", name):
            key = f"L{head[1]}KV{int(head[2]) * keys // heads}"
            found.append([by_name[each] for each in (f"{name}.q", f"{key}.k", f"{key}.v")])
        else:
            found.append([by_name[name]] if name in by_name else [])
    return found


def _layer(name: str) -> int:
    found = re.match(r"L(\d+)", name)
    return int(found[1]) if found else -1
