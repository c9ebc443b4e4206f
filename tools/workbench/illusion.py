"""Does a direction do what its patch does, or does the patch open a path that the model never uses?

A direction that is half a disconnected one, which carries the information, and half a dormant one, which the model
reads but which never varies, changes the output when patched though the model uses neither (Makelov et al. 2311.17030).
So a patch is compared with the patch of its part in the row space of what reads it, and with that of the whole
activation: the direction cannot rightly do what neither of them does.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.metrics import Metric, alike, observe
from tools.workbench.registry import ToolOutput
from tools.workbench.subject import Splice, Subject

WEAK = 0.01  # of the mean reading strength: a direction read less than this counts as disconnected
EXCESS = 1.5  # times the whole activation's effect
ROUNDING = 1e-5
KEPT = 0.5  # of the effect that the row-space part must keep

Run = Callable[[Tensor], np.ndarray]  # activations [n, ..., d] -> the metric on each prompt, float64[n]


class Illusion(ToolOutput):
    """Mean size of the change of the metric when activations are exchanged between prompts: along the direction, along
    its row-space part alone, and as a whole. read: share of the direction's square that anything downstream reads."""

    direction: float
    rowspace_only: float
    full: float
    read: float
    warning: str | None


def compare(run: Run, base: Tensor, source: Tensor, direction: Tensor, gram: Tensor) -> Illusion:
    """Patches `base` [n, ..., d] from `source` along `direction` [d].

    gram: [d, d], the sum of W W' over all that read the activation, W [d, any].
    """
    before = run(base)
    v = direction / direction.norm()
    row = row_space(gram, v)
    read = float(row.square().sum())

    def size(along: Tensor | None) -> float:
        if along is None:
            patched = source
        elif not along.any():
            patched = base
        else:
            unit = along / along.norm()
            patched = base + ((source - base) @ unit)[..., None] * unit
        return float(np.abs(run(patched) - before).mean())

    whole, full = size(v), size(None)
    part = whole if read > 1 - ROUNDING else size(row)
    faults = []
    if whole > EXCESS * full + 1e-9:
        faults.append(f"more than the whole activation does ({full:.3g})")
    if part < KEPT * whole:
        faults.append(f"mostly without the part of it that anything reads ({part:.3g})")
    said = f"The direction's patch does {whole:.3g}, {' and '.join(faults)}: suspect an illusion"
    return Illusion(direction=whole, rowspace_only=part, full=full, read=read, warning=said if faults else None)


def row_space(gram: Tensor, v: Tensor) -> Tensor:
    """[d]: the part of `v` in the directions that are read at least a hundredth as strongly as the average one."""
    strengths, vectors = torch.linalg.eigh(gram.double().cpu())
    basis = vectors[:, strengths > WEAK * strengths.mean()]
    part: Tensor = (basis @ (basis.T @ v.double().cpu())).to(v)
    return part


@lru_cache(maxsize=4)
def readers(subject: Subject, layer: int) -> Tensor:
    """[d_model, d_model]: the sum of W W' / |W|^2 over all that read the residual stream entering `layer` or later.

    Those are the query, key and value weights, the MLP's, and the unembedding; the norms' gains are left out.
    """
    names = [("attn", "W_Q"), ("attn", "W_K"), ("attn", "W_V"), ("mlp", "W_in"), ("mlp", "W_gate")]
    weights = [subject.model.unembed.W_U]
    for block in list(subject.model.blocks)[layer:]:
        for part, name in names:
            weight = getattr(getattr(block, part, None), name, None)
            if isinstance(weight, Tensor):
                weights.append(weight)
    gram = torch.zeros(subject.d_model, subject.d_model, dtype=torch.float32, device=subject.device)
    for weight in weights:
        axis = list(weight.shape).index(subject.d_model) if weight.ndim == 2 else weight.ndim - 2
        w = weight.detach().float().movedim(axis, 0).reshape(subject.d_model, -1)
        gram += w @ w.T / w.square().sum()
    return gram


def exchanged(
    context: Context,
    hook: str,
    direction: Tensor,
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    positions: Sequence[int],
    partners: Sequence[int],
) -> Illusion:
    """The check on real prompts: prompt i's activations at `positions` of `hook` come from prompt partners[i]."""
    subject = context.subject
    parts: list[Tensor | None] = [None] * len(prompts)
    for indices, tokens in alike(prompts):
        at = [position % tokens.shape[1] for position in positions]
        for index, value in zip(indices, subject.value_at(hook, tokens)[:, at], strict=True):
            parts[index] = value.float()
    base = torch.stack([part for part in parts if part is not None])  # [n, k, d_model]

    def run(activations: Tensor) -> np.ndarray:
        def splice(indices: list[int]) -> Splice:
            def put(value: Tensor) -> Tensor:
                value = value.clone()
                value[:, [p % value.shape[1] for p in positions]] = activations[indices].to(value)
                return value

            return hook, put

        return observe(context, prompts, metric, splice=splice).values

    gram = readers(subject, subject.layer_of(hook))
    return compare(run, base, base[list(partners)], direction.to(base), gram)
