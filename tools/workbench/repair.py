"""What a part's loss does, in pieces that add up: directly, through later parts, and by the final norm's scale.

total = direct + downstream + norm (McGrath et al. 2307.15771; Rushing & Nanda 2402.15390). direct is the
change of what the part itself writes, read through the final norm at the clean prompt's scale; downstream the change of
what everything after it writes, at that scale; norm what the change of scale does to the whole. Self-repair is total
less direct.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.workbench.edges import Edges
from tools.workbench.registry import ToolError
from tools.workbench.unembed import norm_gain

AGREES = 1e-2  # logits


@dataclass(frozen=True, eq=False)
class Repair:
    """Changes of the logit difference, float64[parts, n] each."""

    total: np.ndarray
    direct: np.ndarray
    downstream: np.ndarray
    norm: np.ndarray


class Readout:
    """The logit difference as a linear map of the last token's residual stream, once its scale is known."""

    def __init__(self, edges: Edges) -> None:
        subject = self.subject = edges.subject
        self.centred = subject.model.cfg.normalization_type in ("LN", "LNPre")
        unembed = subject.model.unembed.W_U
        difference = unembed[:, edges.batch.answer] - unembed[:, edges.batch.other]
        self.direction = (norm_gain(subject)[:, None] * difference.float()).T.double()  # [n, d_model]
        self.clean = edges.final(edges.clean)
        self.scale = self.scale_of(self.clean)
        gap = self.read(edges.final(edges.corrupted)) / self.scale_of(edges.final(edges.corrupted))
        gap -= self.read(self.clean) / self.scale
        if np.abs((gap.cpu().numpy()) - (edges.theirs - edges.own)).max() > AGREES:
            raise ToolError(
                f"{subject.name} does not read its logits linearly after its norm: nothing can be taken apart."
            )

    def read(self, residual: Tensor) -> Tensor:
        """float64[..., n] of residual [..., n, d_model], before it is divided by the scale."""
        centred = residual.double() - residual.double().mean(-1, keepdim=True) if self.centred else residual.double()
        read: Tensor = (centred * self.direction).sum(-1)
        return read

    def scale_of(self, residual: Tensor) -> Tensor:
        """float64[..., n]: what the final norm divides by."""
        residual = residual.double()
        if self.centred:
            residual = residual - residual.mean(-1, keepdim=True)
        eps = float(getattr(self.subject.model.cfg, "eps", 1e-5))
        return (residual.square().mean(-1) + eps).sqrt()


def direct_effects(edges: Edges) -> np.ndarray:
    """float64[senders, n]: change of the logit difference when what each sends to the logits is as on the corrupted
    prompt, at the clean prompt's scale. They add up to that of the whole residual stream."""
    readout = Readout(edges)
    found: np.ndarray = (readout.read(edges.gap[:, :, -1]) / readout.scale).cpu().numpy()
    return found


def whole_effect(edges: Edges) -> np.ndarray:
    """float64[n]: what `direct_effects` add up to, read off the corrupted run."""
    readout = Readout(edges)
    change = readout.read(edges.final(edges.corrupted)) - readout.read(readout.clean)
    found: np.ndarray = (change / readout.scale).cpu().numpy()
    return found


def self_repair(edges: Edges, senders: list[int]) -> Repair:
    """Each sender on its own as on the corrupted prompt; `edges` must measure the logit difference."""
    readout = Readout(edges)
    masks = [torch.zeros_like(edges.exists) for _ in senders]
    for mask, sender in zip(masks, senders, strict=True):
        mask[:, sender] = edges.exists[:, sender]
    last = torch.empty(len(senders), *readout.clean.shape, device=readout.clean.device, dtype=readout.clean.dtype)
    total = edges.run(masks, last=last) - edges.own
    own = edges.gap[senders, :, -1]
    direct = readout.read(own) / readout.scale
    downstream = readout.read(last - readout.clean - own) / readout.scale
    norm = readout.read(last) * (1 / readout.scale_of(last) - 1 / readout.scale)
    return Repair(total, *(each.cpu().numpy() for each in (direct, downstream, norm)))
