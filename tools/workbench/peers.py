"""Units to edit instead of the one in question: active on the same prompts, and most nearly as active."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.editing import Change
from tools.workbench.metrics import alike
from tools.workbench.registry import ToolError


def active_latent(
    context: Context, prompts: Sequence[Sequence[int]], rng: np.random.Generator, own: int | None = None
) -> int:
    """The latent whose mean activation on the prompts is closest to that of `own`, or any that fires (own: None).

    ToolError when none fires but `own`.
    """
    total = torch.zeros(context.subject.dictionary.n_latents, dtype=torch.float64, device=context.subject.device)
    for _, tokens in alike(prompts):
        total += context.subject.activations(tokens).double().sum((0, 1))
    size = total.cpu().numpy()
    active = [int(i) for i in (size > 0).nonzero()[0] if i != own]
    if not active:
        raise ToolError("No other latent fires on these prompts, to compare with: give longer or other prompts.")
    if own is None:
        return active[int(rng.integers(len(active)))]
    return min(active, key=lambda i: abs(size[i] - size[own]))


def unit_peer(context: Context, group: Sequence[Change], prompts: Sequence[Sequence[int]]) -> tuple[list[Change], int]:
    """The changes of a neuron or head made to another of the same layers, and which; each scaled to equal norm.

    It is the one whose activation (a head's norm) on the prompts is closest in size. ToolError when no other is active.
    """
    activity, lengths = (torch.stack(each) for each in zip(*(_sizes(context, c, prompts) for c in group), strict=True))
    own = group[0].head if group[0].head is not None else int(_read(group[0]).argmax())
    far = (activity - activity[:, own, None]).abs().sum(0)
    idle = (activity == 0).any(0) | (lengths == 0).any(0)
    idle[own] = True
    if bool(idle.all()):
        what = "neuron" if group[0].head is None else "head"
        raise ToolError(f"No other {what} is active on these prompts, to compare with: give longer or other prompts.")
    other = int(far.masked_fill(idle, torch.inf).argmin())
    scales = (lengths[:, own] / lengths[:, other]).tolist()
    return [_moved(change, own, other, scale) for change, scale in zip(group, scales, strict=True)], other


def _read(change: Change) -> Tensor:
    assert change.read is not None
    return change.read


def _moved(change: Change, own: int, other: int, scale: float) -> Change:
    if change.head is not None:
        factor = -1.0 if change.operation == "ablate" else change.strength - 1
        return replace(change, head=other, operation="scale", strength=1 + factor * scale)
    read = torch.roll(_read(change), other - own)
    return replace(change, read=read, write=read * scale)


def _sizes(context: Context, change: Change, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """float64[width] each: mean size of every unit's activation on the tokens that are edited, and of the change."""
    activity, lengths, n = torch.zeros(()), torch.zeros(()), 0
    for _, tokens in alike(prompts):
        b, s = tokens.shape
        at = [int(p) % s for p in change.positions] if isinstance(change.positions, tuple) else list(range(1, s))
        value = context.subject.value_at(change.hook, tokens)[:, at].double().cpu().flatten(0, 1)
        if change.head is not None:
            value = value.norm(dim=-1)
            moved = (1.0 if change.operation == "ablate" else abs(change.strength - 1)) * value
        else:
            moved = {
                "add": torch.ones_like(value),  # as long for every unit, also of a dose that is not chosen yet
                "ablate": change.centre - value,
                "clamp": change.strength - value,
                "scale": (change.strength - 1) * (value - change.centre),
            }[change.operation]
        activity, lengths, n = activity + value.abs().sum(0), lengths + moved.abs().sum(0), n + b * len(at)
    return activity / max(n, 1), lengths / max(n, 1)
