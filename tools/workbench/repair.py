"""What a loss does, in pieces that add up: directly, through later parts, and by the final norm's scale.

total = direct + downstream + norm (McGrath et al. 2307.15771; Rushing & Nanda 2402.15390). direct is what the ablation
itself adds to the last token's residual stream, read through the final norm at the unedited prompt's scale; downstream
the change of what everything after it writes, at that scale; norm what the change of scale does to the whole.
Self-repair is total less direct.

How to use it: `of_edits`, `of_patch` and `of_edges` give a `Repair` for prompts and pairs, or raise a ToolError with
the reason; `attached` makes of it what a tool's output carries, and `repair_said` the words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tools.workbench.components import into_stream
from tools.workbench.context import Context
from tools.workbench.edges import Edges
from tools.workbench.editing import Change, Moves
from tools.workbench.metrics import Metric, Reader, alike
from tools.workbench.patching import Patch, Patcher, Progress
from tools.workbench.registry import ToolError, ToolOutput
from tools.workbench.sites import PLACES
from tools.workbench.subject import Splice, Subject
from tools.workbench.unembed import norm_scale, readout

AGREES, AGREES_ROUGHLY = 1e-2, 0.5  # logits, in float32 and in 16 bits
LITTLE = 0.05  # logits: a direct effect below it has nothing to be repaired


@dataclass(frozen=True, eq=False)
class Repair:
    """Changes of the logit difference, float64[..., n] each."""

    total: np.ndarray
    direct: np.ndarray
    downstream: np.ndarray
    norm: np.ndarray

    def of(self, index: object) -> "Repair":
        """Those of one part, or of some."""
        return Repair(*(getattr(self, each.name)[index] for each in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Repair"]) -> "Repair":
        """Of all prompts."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts], axis=-1) for each in fields(cls)))


class SelfRepair(ToolOutput):
    """What an ablation changes of the logit difference, mean over prompts: total = direct + downstream (later parts) +
    norm (the final norm's scale). share: of the direct effect that is made good (negative: made worse), norm_share: by
    the norm alone; None where the direct effect is below 0.05 or less than half of the whole, which then comes through
    later parts and is no repair."""

    total: float
    direct: float
    downstream: float
    norm: float
    share: float | None
    norm_share: float | None


def attached(take_apart: Callable[[], Repair]) -> SelfRepair | str:
    """What a tool's output carries: the pieces, or why there are none."""
    try:
        return summed(take_apart())
    except ToolError as reason:
        return str(reason)


def summed(found: Repair) -> SelfRepair:
    """The means of a repair [n]."""
    total, direct, downstream, norm = (float(getattr(found, each.name).mean()) for each in fields(found))
    told = abs(direct) >= max(LITTLE, abs(total) / 2)
    return SelfRepair(
        total=total,
        direct=direct,
        downstream=downstream,
        norm=norm,
        share=(direct - total) / direct if told else None,
        norm_share=-norm / direct if told else None,
    )


def repair_said(found: SelfRepair | str, what: str = "The change") -> str:
    """The pieces in words, a sentence."""
    if isinstance(found, str):
        return f"Self-repair is not told: {found}"
    pieces = (
        f"{what}, {found.total:+.3g} of the logit difference, is direct {found.direct:+.3g}, later parts "
        f"{found.downstream:+.3g} and the final norm {found.norm:+.3g}: "
    )
    if found.share is None:
        return f"{pieces}it comes through later parts, and there is little direct effect to make good."
    if found.share < 0:
        return f"{pieces}the direct effect is made {-found.share:.0%} larger and not made good."
    return f"{pieces}{found.share:.0%} of the direct effect is made good."


class Readout:
    """A logit difference as a linear map of the last token's residual stream, once its scale is known.

    direction: float64[n, d_model]; constant: [n], what biases add; clean: [n, d_model], the residual stream of the
    unedited prompts and own: float64[n], their logit difference. ToolError where the one does not give the other.
    """

    def __init__(self, subject: Subject, direction: Tensor, constant: Tensor, clean: Tensor, own: np.ndarray) -> None:
        self.subject, self.direction, self.clean = subject, direction, clean
        self.scale = norm_scale(subject, clean)  # float64[n]
        found = (self.read(clean) / self.scale + constant.to(clean.device)).cpu().numpy()
        if np.abs(found - own).max() > (AGREES if subject.dtype == torch.float32 else AGREES_ROUGHLY):
            raise ToolError(
                f"{subject.name} does not read its logits linearly after its norm: nothing can be taken apart."
            )

    def read(self, residual: Tensor) -> Tensor:
        """float64[..., n] of residual [..., n, d_model], before it is divided by the scale."""
        read: Tensor = (residual.double() * self.direction).sum(-1)
        return read

    def apart(self, total: np.ndarray, last: Tensor, own: Tensor) -> Repair:
        """total: float64[..., n], the change of the metric. last, own: [..., n, d_model], the residual stream after the
        loss, and what of its change is the loss itself."""
        own = own.to(last)
        direct = self.read(own) / self.scale
        downstream = self.read(last.double() - self.clean.double() - own.double()) / self.scale
        norm = self.read(last) * (1 / norm_scale(self.subject, last) - 1 / self.scale)
        return Repair(total, *(each.cpu().numpy() for each in (direct, downstream, norm)))


def directions(subject: Subject, reader: Reader, n: int) -> tuple[Tensor, Tensor]:
    """float64[n, d_model] and float64[n]: the direction along which the reader's logit difference grows on each of n
    prompts, and its constant. ToolError for another metric."""
    kind = reader.metric.kind
    if kind == "answer_difference":
        return readout(subject, reader.answers, reader.others)
    if kind != "logit_difference":
        raise ToolError(f"{reader.metric.words} is no logit difference, which alone is a sum of what parts write.")
    (up, above), (down, below) = (readout(subject, torch.tensor(words)) for words in (reader.up, reader.down))
    return (up.mean(0) - down.mean(0)).expand(n, -1), (above.mean() - below.mean()).expand(n)


def of_edits(context: Context, changes: Sequence[Change], prompts: Sequence[Sequence[int]], metric: Metric) -> Repair:
    """The changes made together, on each prompt (token ids, BOS in front)."""
    subject = context.subject
    reader = Reader(context, metric)
    direction, constant = directions(subject, reader, len(prompts))
    parts = []
    order: list[int] = []
    for indices, tokens in alike(prompts):
        clean: list[Tensor] = []
        last: list[Tensor] = []
        moves = Moves()
        before = subject.logits(tokens, also=[_end(subject, clean)])
        after = subject.logits(tokens, changes, also=[_end(subject, last)], moves=moves)
        own, edited = (reader.read(tokens, logits, indices).cpu().double().numpy() for logits in (before, after))
        read = Readout(subject, direction[indices], constant[indices], clean[0], own)
        parts.append(read.apart(edited - own, last[0], _written(subject, moves.last)))
        order += indices
    return Repair.joined(parts).of(np.argsort(order))


def of_patch(patcher: Patcher, patch: Patch) -> Repair:
    """The sites of a patch together, on each pair of a noising run."""
    subject = patcher.subject
    direction, constant = directions(subject, patcher.reader, patcher.n)
    read = Readout(subject, direction, constant, patcher.into.last, patcher.own)
    seen: dict[str, list[Tensor]] = {}
    last: list[Tensor] = []

    def look(hook: str) -> Splice:
        return hook, lambda value: seen.setdefault(hook, []).append(value[:, -1])

    hooks: list[Splice] = []
    for hook, put in patcher.splices(patch):
        if into_stream(subject, hook) is None:
            words = PLACES[patch.sites[0].kind].words
            raise ToolError(f"{words} is not written into the residual stream, where a direct effect is read.")
        hooks += [look(hook), (hook, put), look(hook)]
    hooks.append(_end(subject, last))
    layer, every = min(site.layer for site in patch.sites), list(range(patcher.n))
    logits = patcher.into.resume(torch.arange(patcher.n), layer, 0, hooks)
    total = patcher.reader.read(patcher.into.tokens, logits, every).cpu().double().numpy() - patcher.own
    moved = {hook: after - before for hook, (before, after) in seen.items()}
    return read.apart(total, last[0], _written(subject, moved))


def of_edges(edges: Edges, masks: Sequence[Tensor], progress: Progress = lambda done, total: None) -> Repair:
    """float64[masks, n]: the edges of each mask corrupted; the loss itself is what they carry to the logits."""
    read = reading(edges)
    shape = len(masks), *read.clean.shape
    last = torch.empty(shape, device=read.clean.device, dtype=read.clean.dtype)
    total = edges.run(masks, progress, last=last) - edges.own
    to_logits = torch.stack([mask[-1] & edges.exists[-1] for mask in masks]).to(edges.gap)
    return read.apart(total, last, torch.einsum("ku,und->knd", to_logits, edges.gap[:, :, -1]))


def direct_effects(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """float64[senders, n]: change of the logit difference when what each sends to the logits is as on the corrupted
    prompt, at the clean prompt's scale; and float64[n], what they add up to, that of the whole residual stream."""
    read = reading(edges)
    whole = edges.corrupted.last.double() - read.clean.double()
    each, together = ((read.read(moved) / read.scale).cpu().numpy() for moved in (edges.gap[:, :, -1], whole))
    return each, together


def reading(edges: Edges) -> Readout:
    """How the edges' logit difference is read. ToolError for another metric."""
    direction, constant = directions(edges.subject, edges.reader, edges.n)
    return Readout(edges.subject, direction, constant, edges.clean.last, edges.own)


def _end(subject: Subject, seen: list[Tensor]) -> Splice:
    """Notes the last token's residual stream before the final norm."""
    return subject.end, lambda value: seen.append(value[:, -1])


def _written(subject: Subject, moved: dict[str, Tensor]) -> Tensor:
    """[b, d_model]: what was added at hook points' last token [b, *shape], as it gets into the residual stream."""
    parts = []
    for hook, value in moved.items():
        write = into_stream(subject, hook)
        if write is None:
            raise ToolError(f"what stands at {hook} is not written into the residual stream.")
        parts.append(write(value.flatten(1)))
    return torch.stack(parts).sum(0)
