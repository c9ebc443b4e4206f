"""Edge attribution patching: what corrupting each edge would do, estimated from gradients at every receiver's input.

score(u -> v) = (what u sends on the corrupted prompt - on the clean one) . dL/d(input of v), mean over pairs (Syed et
al. 2310.10348, equation 3). With steps > 1 the gradient is the mean over interpolations of the embeddings from
corrupted to clean, the clean end included (EAP-IG, Hanna et al. 2403.17806, equation 4). The scores into a receiver add
up to the attribution of its whole input.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tools.workbench.edges import Edges, projected
from tools.workbench.gradients import Graph, together
from tools.workbench.patching import Progress
from tools.workbench.subject import Splice, Subject


def edge_scores(edges: Edges, steps: int = 1, progress: Progress = lambda done, total: None) -> Tensor:
    """float64[receivers, senders]: the estimated change of the metric, mean over pairs; 0 where there is no edge."""
    found = torch.zeros(edges.exists.shape, dtype=torch.float64)
    size = together(edges.subject, edges.length)
    total = -(-edges.n // size) * steps
    for chunk, begin in enumerate(range(0, edges.n, size)):
        rows = list(range(begin, min(begin + size, edges.n)))
        sent = edges.gap[:, rows].flatten(1)
        mean: Tensor | None = None
        for step in range(1, steps + 1):
            gradients = input_gradients(edges, rows, step / steps)
            mean = gradients if mean is None else mean + gradients
            progress(chunk * steps + step, total)
        assert mean is not None
        found += ((mean / steps).flatten(1) @ sent.T).double().cpu()
    return found.where(edges.exists, 0.0) / edges.n


def input_gradients(edges: Edges, rows: list[int], way: float = 1.0) -> Tensor:
    """[receivers, b, s, d_model]: the metric's gradient at what each receiver reads, from token `edges.start` on, with
    embeddings `way` from the corrupted (0) to the clean prompt (1)."""
    subject = edges.subject
    names = [f"blocks.{n}.{what}" for n in range(subject.n_layers) for what in _POINTS]
    clean, corrupted = (run.residuals[0][rows] for run in (edges.clean, edges.corrupted))
    between = corrupted + way * (clean - corrupted)
    hooks: list[Splice] = [(subject.residual_points[0], lambda value: between)]
    graph = Graph(subject, edges.clean.tokens[rows], edges.reader, rows, [*names, subject.end], hooks)
    gradients = graph.gradients()
    parts = [part for n in range(subject.n_layers) for part in _layer(subject, n, graph.values, gradients)]
    return torch.cat([*parts, gradients[subject.end][None]])[:, :, edges.start :]


_POINTS = ("hook_resid_pre", "attn.hook_q", "attn.hook_k", "attn.hook_v", "ln2.hook_in")


def _layer(subject: Subject, layer: int, values: dict[str, Tensor], gradients: dict[str, Tensor]) -> Iterator[Tensor]:
    """[heads, b, s, d_model] of the queries, then the keys, the values and, [1, ...], the MLP of a layer."""
    block = f"blocks.{layer}."
    residual = values[f"{block}hook_resid_pre"]
    for part in ("q", "k", "v"):
        above = gradients[f"{block}attn.hook_{part}"]
        inputs = residual[:, :, None].expand(-1, -1, above.shape[2], -1).detach().requires_grad_(True)
        with torch.enable_grad():
            out = projected(subject, layer, part, inputs)
        (below,) = torch.autograd.grad(out, inputs, above)
        yield below.permute(2, 0, 1, 3)
    yield gradients[f"{block}ln2.hook_in"][None]
