"""The model as a graph: what writes to the residual stream, what reads it, and runs with some edges corrupted.

Senders are the embedding, each head and each MLP; receivers are each head's query, each key head's key and value, each
MLP's input and the logits. The residual stream is the sum of what was sent, so that a receiver's input can be had with
some senders as they are on the corrupted prompt and the others as they are in this very run.

How to use it: `Edges(context, batch, metric)` runs clean and corrupted once. `edges.run(masks)` measures the metric
with the edges of each mask corrupted (bool[receivers, senders]); everything after them is computed anew, so that a
single edge is exact edge patching (noising), the complement of a circuit is the circuit alone, and no mask is the clean
run. `edges.graph` (`tools.workbench.nodes.Nodes`) spells the edges.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.memory import spendable
from tools.workbench.metrics import Metric, Reader
from tools.workbench.nodes import Nodes
from tools.workbench.pairs import Batch
from tools.workbench.passes import PASS_SECONDS
from tools.workbench.patching import Progress
from tools.workbench.registry import ToolError
from tools.workbench.resume import Run
from tools.workbench.shares import EQUAL
from tools.workbench.subject import Splice, Subject

AGREES = 1e-2  # of the metric's gap: a sum of what was sent that leaves more is no sum
TOGETHER, FIRST = 64, 8  # rows of a pass, and of the first, which tells how many take about two seconds


class Edges:
    """Both runs of n pairs. own, theirs: float64[n], the metric on clean and on corrupted prompts; gap: [senders, n, s,
    d_model], how much more the corrupted prompt sends, from token `start` on."""

    def __init__(self, context: Context, batch: Batch, metric: Metric) -> None:
        self.context, self.subject, self.batch = context, context.subject, batch
        self.graph = Nodes.of(self.subject)
        self.clean, self.corrupted = Run(self.subject, batch.clean), Run(self.subject, batch.corrupted)
        self.n, self.length = batch.clean.shape
        self.start = batch.first if self.clean.starts(batch.first) and self.corrupted.starts(batch.first) else 0
        self._read_by(metric)
        self.sent = self._sent(self.corrupted)
        self.gap = self.sent - self._sent(self.clean)
        self._check()

    def measured_by(self, metric: Metric) -> "Edges":
        """The same runs and edges, measured by another metric."""
        other = copy(self)
        other._read_by(metric)
        return other

    def _read_by(self, metric: Metric) -> None:
        self.reader = Reader(self.context, metric, self.batch.answer, self.batch.other)
        if metric.kind == "kl":
            self.reader.reference = self.clean.logits.double().log_softmax(-1)
        every = list(range(self.n))
        self.own, self.theirs = (
            self.reader.read(run.tokens, run.logits[:, None], every).cpu().double().numpy()
            for run in (self.clean, self.corrupted)
        )

    @cached_property
    def exists(self) -> Tensor:
        return self.graph.exists

    def run(
        self,
        masks: Sequence[Tensor],
        progress: Progress = lambda done, total: None,
        sent: Tensor | None = None,
        last: Tensor | None = None,
    ) -> np.ndarray:
        """float64[masks, n]: the metric with each mask's edges corrupted.

        sent: [senders, n, s, d_model], what those edges carry; None: what is sent on the corrupted prompt. last:
        [masks, n, d_model], to be filled with the last token's residual stream before the final norm.
        """
        found = np.tile(self.own, (len(masks), 1))
        if last is not None:
            last[:] = self.clean.last
        queues: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for index, mask in enumerate(masks):
            touched = (mask & self.exists).any(1).nonzero()
            if len(touched):
                layer = self.graph.receivers[int(touched[0])].layer
                queues[layer] += [(index, pair) for pair in range(self.n)]
        done, total = 0, sum(map(len, queues.values()))
        fits, quick = self._rows(), FIRST
        for layer, queue in sorted(queues.items()):
            while queue:
                rows, begun = queue[: min(fits, quick)], perf_counter()
                pairs = [pair for _, pair in rows]
                mask = torch.stack([masks[index] & self.exists for index, _ in rows]).to(self.subject.device)
                hooks = _Pass(self, layer, pairs, mask, self.sent if sent is None else sent).hooks
                final: list[Tensor] = []
                hooks.append((self.subject.end, final.append))
                logits = self.clean.resume(torch.tensor(pairs), layer, self.start, hooks)
                values = self.reader.read(self.clean.tokens[pairs], logits, pairs).cpu().double().numpy()
                found[[index for index, _ in rows], pairs] = values
                if last is not None:
                    last[[index for index, _ in rows], pairs] = final[0][:, -1]
                quick = max(1, int(len(rows) * PASS_SECONDS / (perf_counter() - begun)))
                del queue[: len(rows)]
                done += len(rows)
                progress(done, total)
        if not np.isfinite(found).all():
            raise ToolError(f"{self.reader.metric.words.capitalize()} is not finite: use another metric.")
        return found

    def through_mlps(self, senders: Sequence[int]) -> Tensor:
        """[senders, n, s, d_model]: what each sends when these are as on the corrupted prompt, all other heads as on
        the clean one, and the MLPs after them computed anew."""
        sent = self.sent - self.gap
        sent[list(senders)] = self.sent[list(senders)]
        rows = [row for row, receiver in enumerate(self.graph.receivers) if receiver.part == "mlp"]
        mask = torch.zeros_like(self.exists)
        for sender in senders:
            mask[rows, sender] = self.exists[rows, sender]
        reached = [row for row in rows if mask[row].any()]
        if not reached:
            return sent
        lowest, heads = self.graph.receivers[reached[0]].layer, self.subject.n_heads
        frozen: list[Splice] = []
        outs: list[Splice] = []
        for layer in range(lowest, self.subject.n_layers):
            at = 1 + layer * (heads + 1) + heads
            frozen.append((f"blocks.{layer}.attn.hook_z", partial(_given, self._z[layer])))
            if at not in senders:
                outs.append((f"blocks.{layer}.hook_mlp_out", partial(sent[at].copy_)))
        every = list(range(self.n))
        made = _Pass(self, lowest, every, mask.to(sent.device).expand(self.n, -1, -1), self.sent).hooks
        self.clean.resume(torch.tensor(every), lowest, self.start, [*frozen, *made, *outs])
        return sent

    @cached_property
    def _z(self) -> list[Tensor]:
        """The clean run's heads, [n, s, heads, d_head] for each layer."""
        caught: list[Tensor] = []
        hooks = [(f"blocks.{n}.attn.hook_z", caught.append) for n in range(self.subject.n_layers)]
        self.clean.resume(torch.arange(self.n), 0, self.start, hooks)
        return caught

    def _rows(self) -> int:
        """Prompts that memory holds at once."""
        width = self.length - self.start
        row = 4 * width * self.subject.d_model * (len(self.graph.senders) + 8 * self.subject.n_heads)
        return int(
            max(1, min(TOGETHER, spendable(self.subject.device) // (row + 40 * int(self.subject.model.cfg.d_vocab))))
        )

    def _sent(self, run: Run) -> Tensor:
        """[senders, n, s, d_model]: what each sends, from token `start` on."""
        sent: list[Tensor] = []
        hooks: list[Splice] = [(self.subject.residual_points[0], lambda value: sent.append(value[None].clone()))]
        for layer in range(self.subject.n_layers):
            hooks.append((f"blocks.{layer}.attn.hook_z", partial(self._keep, sent, layer)))
            hooks.append((f"blocks.{layer}.hook_mlp_out", lambda value: sent.append(value[None].clone())))
        run.resume(torch.arange(self.n), 0, self.start, hooks)
        return torch.cat(sent)

    def _keep(self, sent: list[Tensor], layer: int, z: Tensor) -> None:
        sent.append(self.heads(layer, z))

    def heads(self, layer: int, z: Tensor) -> Tensor:
        """[heads, b, s, d_model]: what the heads of a layer send, of z [b, s, heads, d_head]."""
        weight = self.subject.model.blocks[layer].attn.W_O
        sent: Tensor = torch.einsum("bshe,hed->hbsd", z, weight.to(z))
        return sent

    def _check(self) -> None:
        """All edges corrupted must give the corrupted run."""
        values = self.run([self.exists])[0]
        scale = max(1.0, float(np.abs(self.own - self.theirs).max()))
        if np.abs(values - self.theirs).max() > AGREES * scale:
            raise ToolError(
                f"{self.subject.name} does not add up what its heads and MLPs send (a norm or a scale lies between): "
                "patch sites instead of edges."
            )


def _given(given: Tensor, value: Tensor) -> Tensor:
    return given


def run_edges(
    parts: Sequence[Edges], masks: Sequence[Tensor], progress: Progress = lambda done, total: None
) -> np.ndarray:
    """float64[masks, n]: the metric on every pair, of several lengths, with each mask's edges corrupted."""
    return np.concatenate([part.run(masks, progress) for part in parts], axis=1)


def gap_of(own: np.ndarray, theirs: np.ndarray) -> float:
    """The mean gap between clean and corrupted, each [n]. ToolError where there is none."""
    gap = float((own - theirs).mean())
    if abs(gap) < EQUAL:
        raise ToolError(
            "The metric is the same on clean and corrupted prompts, so that a circuit has nothing to be faithful to: "
            "give pairs that the model tells apart."
        )
    return gap


def only(exists: Tensor, places: Iterable[int]) -> Tensor:
    """The mask that corrupts these edges, given by their places in the flat mask, and no others."""
    mask = torch.zeros_like(exists).flatten()
    mask[[int(place) for place in places]] = True
    return mask.view_as(exists)


def without(exists: Tensor, places: Iterable[int]) -> Tensor:
    """The mask that corrupts every edge but these."""
    return exists & ~only(exists, places)


class _Pass:
    """The hooks of a forward pass from `layer` on. pairs: of each row; mask: bool[rows, receivers, senders]."""

    def __init__(self, edges: Edges, layer: int, pairs: list[int], mask: Tensor, sent: Tensor) -> None:
        self.edges, self.pairs, self.sent = edges, torch.tensor(pairs), sent
        self.below = edges.gap if sent is edges.sent else sent - (edges.sent - edges.gap)  # [senders, n, s, d]
        self.first = 1 + layer * (edges.subject.n_heads + 1)  # sender that is computed anew
        shape = len(edges.graph.senders) - self.first, len(pairs), *sent.shape[2:]
        self.fresh = torch.empty(shape, dtype=sent.dtype, device=sent.device)  # what they carry more than they send now
        self.hooks: list[Splice] = []
        subject, graph = edges.subject, edges.graph
        heads = subject.n_heads
        rows_of: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for row, receiver in enumerate(graph.receivers):
            rows_of[receiver.layer, receiver.part].append(row)
        for n in range(layer, subject.n_layers):
            first, block = 1 + n * (heads + 1), f"blocks.{n}."
            for part in ("q", "k", "v"):
                self._turn(n, part, mask[:, rows_of[n, part], :first])
            self.hooks.append((f"{block}attn.hook_z", partial(self._heads, n, first)))
            mlp = rows_of[n, "mlp"][0]
            self._shift(f"{block}ln2.hook_in", mask[:, mlp, : graph.receivers[mlp].before])
            self.hooks.append((f"{block}hook_mlp_out", partial(self._mlp, first + heads)))
        self._shift(subject.end, mask[:, -1])

    def _heads(self, layer: int, at: int, z: Tensor) -> None:
        self._note(at, self.edges.heads(layer, z))

    def _mlp(self, at: int, out: Tensor) -> None:
        self._note(at, out[None])

    def _note(self, at: int, now: Tensor) -> None:
        """What the senders from `at` on send in this run: now [k, rows, s, d]."""
        self.fresh[at - self.first : at - self.first + len(now)] = self.sent[at : at + len(now), self.pairs] - now

    def _carried(self, mask: Tensor) -> Tensor:
        """[rows, k, s, d]: what corrupted edges add to each of k receivers; mask: bool[rows, k, senders]."""
        rows, k, senders = mask.shape
        weights = mask.to(self.sent)
        added = torch.zeros(rows, k, *self.sent.shape[2:], dtype=self.sent.dtype, device=self.sent.device)
        split = min(senders, self.first)
        if mask[..., :split].any():
            for pair in sorted(set(self.pairs.tolist())):
                own = (self.pairs == pair).nonzero()[:, 0].to(added.device)
                carried = weights[own, :, :split].flatten(0, 1) @ self.below[:split, pair].flatten(1)
                added[own] = carried.view(len(own), k, *self.sent.shape[2:])
        if mask[..., split:].any():
            added += torch.einsum("rku,ursd->rksd", weights[..., split:], self.fresh[: senders - split])
        return added

    def _shift(self, hook: str, mask: Tensor) -> None:
        """Corrupts what a receiver reads at a hook point; mask: bool[rows, senders that come before it]."""
        if mask.any():
            self.hooks.append((hook, lambda value: value + self._carried(mask[:, None])[:, 0]))

    def _turn(self, layer: int, part: str, mask: Tensor) -> None:
        """Corrupts what the heads of a layer read as q, k or v; mask: bool[rows, heads, senders]."""
        if not mask.any():
            return
        moved: list[Tensor] = []

        def look(value: Tensor) -> None:
            shift = self._carried(mask).transpose(1, 2)
            before = value[:, :, None].expand_as(shift)
            now, then = (projected(self.edges.subject, layer, part, each) for each in (before + shift, before))
            moved.append(now - then)

        self.hooks.append((f"blocks.{layer}.hook_resid_pre", look))
        self.hooks.append((f"blocks.{layer}.attn.hook_{part}", lambda value: value + moved.pop()))


def projected(subject: Subject, layer: int, part: str, inputs: Tensor) -> Tensor:
    """[b, s, heads, d_head]: q, k or v, less its bias, of one input for each head [b, s, heads, d_model]."""
    block: Any = subject.model.blocks[layer]
    weight = getattr(block.attn, f"W_{part.upper()}")
    found: Tensor = torch.einsum("bshd,hde->bshe", block.ln1.original_component(inputs), weight.to(inputs))
    return found
