"""Latents whose decoder rows lie close together, and what they write together (Engels et al. 2405.14860, section 4).

A feature of several dimensions is spread over latents that point into one small space. The reconstruction restricted to
them shows it, without the features that stand beside it in the residual stream.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from store.activations import Harvest

BLOCK = 1024  # rows compared at once
MOST = 2000  # tokens of a cluster that are looked at
COMPONENTS = 4


class Cluster(NamedTuple):
    """points: float64[n, components], the first principal components of what the latents write together on n of their
    tokens; share: of the variance in each. window, position: where they stand. tokens: on how many the latents fire."""

    points: np.ndarray
    share: np.ndarray
    window: np.ndarray
    position: np.ndarray
    tokens: int


def cosine_clusters(decoder: Tensor, cosine: float, neighbours: int) -> list[np.ndarray]:
    """Latents joined where one is among the other's nearest `neighbours` and their decoder rows' cosine is at least
    `cosine`: connected components of three and more, of decoder [n, d], the largest first."""
    rows = decoder.float() / decoder.float().norm(dim=1, keepdim=True).clamp(min=1e-12)
    pairs = []
    for start in range(0, len(rows), BLOCK):
        near = rows[start : start + BLOCK] @ rows.T
        near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -1
        value, other = near.topk(min(neighbours, len(rows) - 1), dim=1)
        at, column = (value >= cosine).nonzero(as_tuple=True)
        pairs.append(torch.stack([at + start, other[at, column]]))
    edges = torch.cat(pairs, dim=1).cpu().numpy()
    graph = coo_array((np.ones(edges.shape[1]), tuple(edges)), shape=(len(rows), len(rows)))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    return [np.flatnonzero(label == each) for each in np.argsort(-sizes, kind="stable") if sizes[each] >= 3]


def written(harvest: Harvest, decoder: Tensor, latents: np.ndarray, rng: np.random.Generator) -> Cluster:
    """What latents int64[m] write on the tokens where any of them fires, at most 2,000 drawn at random."""
    found = [harvest.activations(int(latent)) for latent in latents]
    place = np.concatenate([each.window.astype(np.int64) << 16 | each.position.astype(np.int64) for each in found])
    column = np.repeat(np.arange(len(found)), [len(each.window) for each in found])
    activation = np.concatenate([each.activation for each in found]).astype(np.float64)
    tokens, row = np.unique(place, return_inverse=True)
    activations = coo_array((activation, (row, column)), shape=(len(tokens), len(found))).tocsr()
    kept = np.sort(rng.permutation(len(tokens))[:MOST])
    own = decoder[torch.as_tensor(latents)].double().cpu().numpy()
    spans = np.asarray(np.linalg.qr(own.T, mode="r")).T  # the rows in an orthonormal basis of their own space
    x = activations[kept] @ spans
    x = x - x.mean(0)
    left, sizes, _ = np.linalg.svd(x, full_matrices=False)
    variance = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    points = (left * sizes)[:, :COMPONENTS]
    return Cluster(points, variance[:COMPONENTS], tokens[kept] >> 16, tokens[kept] & 0xFFFF, len(tokens))
