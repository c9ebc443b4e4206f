"""Tokens by how the model would learn from them: gradients of their loss, sketched, and clusters of those.

Tokens whose loss has gradients of like direction are predicted by the same mechanism (Michaud et al. 2303.13506,
section 5, "quanta discovery from gradients"). The gradient of a matrix is a sum over positions of outer products, and
is sketched by projecting both factors at random, which keeps inner products in expectation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import SpectralClustering
from torch import Tensor

from tools.workbench.resume import hooked
from tools.workbench.sites import point
from tools.workbench.subject import Splice, Subject

SKETCH = 16  # numbers that each factor is projected to
TOGETHER = 768  # tokens of a forward and backward pass


def sketch(inputs: Sequence[Tensor], gradients: Sequence[Tensor], seed: int = 0) -> Tensor:
    """float32[n, matrices * SKETCH**2]: for each matrix, the random projection of the sum over positions of gradient x
    input. inputs: [n, s, d_in] of each matrix; gradients: [n, s, d_out] of the loss by its output."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for given, gradient in zip(inputs, gradients, strict=True):
        left, right = (
            each.float() @ (torch.randn(each.shape[-1], SKETCH, generator=generator) / SKETCH**0.5).to(each.device)
            for each in (gradient, given)
        )
        found.append(torch.einsum("nsa,nsb->nab", left, right).flatten(1))
    return torch.cat(found, dim=1).cpu()


def loss_gradients(subject: Subject, tokens: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sketches of the gradients of the last token's loss by the output matrices of attention and MLPs, float32[n, any],
    and the losses [n], nats. tokens: int64[n, s]. Sinks, whose activations drown all others, are left out."""
    sketches, losses = [], []
    for part in tokens.to(subject.device).split(max(1, TOGETHER // tokens.shape[1])):  # type: ignore[no-untyped-call]
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        kept = torch.ones(len(part), part.shape[1] - 1, 1, dtype=torch.bool, device=part.device)

        def begin(value: Tensor) -> Tensor:
            return value.detach().requires_grad_(True)

        def sinks(value: Tensor, kept: Tensor = kept) -> None:
            typical = float(value.detach()[:, 1:].float().norm(dim=-1).median())
            kept &= ~subject.sinks(value.detach(), typical)[..., None]

        def reads(value: Tensor, inputs: list[Tensor] = inputs) -> None:
            inputs.append(value.detach().flatten(2))

        middle = subject.n_layers // 2
        looks: list[Splice] = [(point(subject, "resid_pre", 0), begin), (point(subject, "resid_pre", middle), sinks)]
        for layer in range(subject.n_layers):
            looks += [(point(subject, "z", layer), reads), (point(subject, "attn_out", layer), outputs.append)]
            looks += [(point(subject, "neuron", layer), reads), (point(subject, "mlp_out", layer), outputs.append)]
        last = ("unembed.hook_in", lambda value: value[:, -1:])
        with torch.enable_grad(), hooked(subject, [*looks, last]):
            logits = subject.model(part[:, :-1], return_type="logits")[:, -1].float()
            loss = -logits.log_softmax(-1).gather(1, part[:, -1:])[:, 0]
            gradients = torch.autograd.grad(loss.sum(), outputs)
        sketches.append(sketch(inputs, [gradient * kept for gradient in gradients], seed))
        losses.append(loss.detach().cpu())
    return torch.cat(sketches), torch.cat(losses)


def cosines(sketches: Tensor) -> Tensor:
    """float32[n, n]."""
    unit = sketches / sketches.norm(dim=1, keepdim=True).clamp(min=1e-30)
    found: Tensor = (unit @ unit.T).clamp(-1, 1)
    return found


def clusters(similarity: Tensor, k: int, seed: int = 0) -> np.ndarray:
    """int[n]: spectral clusters of cosines [n, n], by 1 - angle / pi; the largest is 0."""
    affinity = 1 - torch.arccos(similarity.double()).numpy() / np.pi
    model = SpectralClustering(n_clusters=k, affinity="precomputed", assign_labels="kmeans", random_state=seed)
    labels = model.fit_predict(affinity)
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    found: np.ndarray = np.argsort(order)[labels]
    return found


def separation(similarity: Tensor, labels: np.ndarray) -> float:
    """Mean cosine within clusters less that between them; 0 where there is no pair of either."""
    same = torch.from_numpy(labels[:, None] == labels[None])
    other = ~torch.eye(len(labels), dtype=torch.bool)
    within, between = similarity[same & other], similarity[~same]
    return float(within.mean() - between.mean()) if len(within) and len(between) else 0.0


def exchanged(sketches: Tensor, rng: np.random.Generator) -> Tensor:
    """The same numbers, each matrix's exchanged between tokens at random: what clusters alike by chance."""
    blocks = sketches.split(SKETCH**2, dim=1)  # type: ignore[no-untyped-call]
    return torch.cat([block[torch.from_numpy(rng.permutation(len(block)))] for block in blocks], dim=1)
