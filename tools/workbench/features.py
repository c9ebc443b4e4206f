"""Nodes of a sparse feature circuit: latents, and what a dictionary does not explain, patched and attributed.

How to use it: `Features(context, subjects, batch, metric)` runs the clean and corrupted prompts once and reads them by
every dictionary (a subject each, all of one model); the metric is one of the last token's logits. A `Mask` says which
nodes are set to their corrupted values: `run(masks)` gives the metric, exactly, and so verifies one node, a circuit
(its mask is all others), or what is left without it. `attributed(steps)` estimates what each node's patch does. Edges
are in `tools.workbench.feature_edges`.

A hook point's value is x = f @ D + e: activations times decoder, and the error e, a node of its own in which b_dec is
left. Where a node is patched the others are what the dictionary now makes of the value, so that a patch upstream is
seen downstream. Source: Marks et al. 2403.19647, section 3; here corrupted values stand in for means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.gradients import Graph, together
from tools.workbench.memory import spendable
from tools.workbench.metrics import Metric, Reader
from tools.workbench.pairs import Batch
from tools.workbench.patching import Progress
from tools.workbench.registry import ToolError
from tools.workbench.resume import Run, hooked
from tools.workbench.subject import Splice, Subject

ERROR = -1  # a point's error among its units: the last

Mask = list[Tensor]  # for each point bool[places, latents + 1], of one place where positions are taken together


class Node(NamedTuple):
    """point: of which dictionary, by order in the model. unit: a latent, or ERROR. place: the position, or 0 where
    they are taken together."""

    point: int
    unit: int
    place: int


class Features:
    """Both runs of n pairs of s tokens, read by each dictionary.

    into, other: the clean and the corrupted run; own, theirs: float64[n], the metric in each. latents, errors: for each
    point by how much they differ in the corrupted run, [n, s, latents] and [n, s, d_model].
    """

    def __init__(self, context: Context, subjects: Sequence[Subject], batch: Batch, metric: Metric) -> None:
        self.subject, self.subjects = context.subject, in_order(subjects)
        self.n, self.length = batch.clean.shape
        self.first = batch.first
        self.reader = Reader(context, metric, batch.answer, batch.other)
        self.into, self.other = (Run(self.subject, tokens) for tokens in (batch.clean, batch.corrupted))
        pairs = list(range(self.n))
        self.own, self.theirs = (
            self.reader.read(run.tokens, run.logits[:, None], pairs).cpu().numpy() for run in (self.into, self.other)
        )
        self._values, theirs = self._read(self.into), self._read(self.other)
        self._activations = [encoded(s, x) for s, x in zip(self.subjects, self._values, strict=True)]
        self.latents, self.errors = [], []
        for s, x, x_theirs, f in zip(self.subjects, self._values, theirs, self._activations, strict=True):
            change = encoded(s, x_theirs) - f
            change[:, : self.first] = 0
            self.latents.append(change)
            self.errors.append(x_theirs.float() - x.float() - change @ s.dictionary.decoder.float())

    def nothing(self, by_position: bool) -> Mask:
        """The mask of no node."""
        places = self.length if by_position else 1
        return [torch.zeros(places, change.shape[-1] + 1, dtype=torch.bool) for change in self.latents]

    def moving(self, by_position: bool) -> Mask:
        """The nodes that differ on any pair."""
        found = []
        for latents, errors in zip(self.latents, self.errors, strict=True):
            moved = torch.cat([latents != 0, (errors != 0).any(-1, keepdim=True)], -1).any(0).cpu()
            found.append(moved if by_position else moved.any(0, keepdim=True))
        return found

    def run(self, masks: Sequence[Mask], way: float = 1.0, progress: Progress = lambda done, total: None) -> np.ndarray:
        """float64[masks, n]: the metric on each clean prompt with a mask's nodes at `way` of the way from what they are
        on it (0) to what they are on the corrupted prompt (1)."""
        found = np.tile(self.own, (len(masks), 1))
        queues: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for at, mask in enumerate(masks):
            if points := [point for point, own in enumerate(mask) if bool(own.any())]:
                queues[points[0]] += [(at, pair) for pair in range(self.n)]
        done, total = 0, sum(map(len, queues.values()))
        for point, queue in queues.items():
            size = self._together()
            for begin in range(0, len(queue), size):
                which, pairs = map(list, zip(*queue[begin : begin + size], strict=True))
                found[which, pairs] = self._pass([masks[at] for at in which], pairs, point, way)
                done += len(pairs)
                progress(done, total)
        return found

    def attributed(self, steps: int, progress: Progress = lambda done, total: None) -> list[Tensor]:
        """For each point float32[n, s, latents + 1]: what patching each node alone is estimated to do to the metric.

        steps: of integrated gradients from the clean to the corrupted value of all of a point's nodes at once, taken at
        the middle of equal parts of the way (not at step/steps, which counts the beginning and leaves out the end);
        0: the gradient on the clean prompt.
        """
        ways = [(step + 0.5) / steps for step in range(steps)] or [0.0]
        found = []
        for point, (latents, errors) in enumerate(zip(self.latents, self.errors, strict=True)):
            gradient = self._gradient(point, ways)
            by_latent = latents * (gradient @ self.subjects[point].dictionary.decoder.float().T)
            found.append(torch.cat([by_latent, (errors * gradient).sum(-1, keepdim=True)], -1).cpu())
            progress(point + 1, len(self.subjects))
        return found

    def _gradient(self, point: int, ways: Sequence[float]) -> Tensor:
        """float32[n, s, d_model]: the mean gradient of the metric at a point, so far on the way to its other value."""
        hook = self.subjects[point].hook
        moved = self.errors[point] + self.latents[point] @ self.subjects[point].dictionary.decoder.float()
        found = torch.zeros_like(moved)
        size = together(self.subject, self.length)
        for begin in range(0, self.n, size):
            rows = list(range(begin, min(begin + size, self.n)))
            for way in ways:
                splice = (hook, _adding(way * moved[rows]))
                graph = Graph(self.subject, self.into.tokens[rows], self.reader, rows, [hook], [splice])
                found[rows] += graph.gradients()[hook].float() / len(ways)
        return found

    def _pass(self, masks: Sequence[Mask], pairs: list[int], point: int, way: float) -> np.ndarray:
        """float64[r]: the metric of one forward pass of rows that have a node patched at `point` and none before."""
        start = self.first if self.into.starts(self.first) else 0
        hooks = [
            (self.subjects[at].hook, self._patch(at, torch.stack([mask[at] for mask in masks]), pairs, start, way))
            for at in range(point, len(self.subjects))
            if any(bool(mask[at].any()) for mask in masks)
        ]
        layer = self.subject.layer_of(self.subjects[point].hook)
        logits = self.into.resume(torch.tensor(pairs), layer, start, hooks)
        values: np.ndarray = self.reader.read(self.into.tokens[pairs], logits, pairs).cpu().numpy()
        return values

    def _patch(self, point: int, mask: Tensor, pairs: list[int], start: int, way: float) -> Callable[[Tensor], Tensor]:
        """Puts a point's nodes where `mask` [r, places, latents + 1] is true to their values on the way."""
        subject = self.subjects[point]
        decoder = subject.dictionary.decoder.float()
        if mask.shape[1] > 1:
            mask = mask[:, start:]
        mask = mask.to(subject.device)

        def patch(value: Tensor) -> Tensor:
            now = encoded(subject, value, start)
            own, change = self._activations[point][pairs, start:], self.latents[point][pairs, start:]
            wanted = torch.where(mask[..., :-1], own + way * change - now, 0) @ decoder
            if bool(mask[..., -1].any()):
                moved = self.errors[point][pairs, start:]
                own_error = self._values[point][pairs, start:].float() - own @ decoder
                error = own_error + way * moved - (value.float() - now @ decoder)
                wanted = wanted + torch.where(mask[..., -1:], error, 0)
            return value + wanted.to(value)

        return patch

    def _read(self, run: Run) -> list[Tensor]:
        """[n, s, d_model] at each point."""
        caught: dict[str, Tensor] = {}
        looks: list[Splice] = [(s.hook, keeping(caught, s.hook)) for s in self.subjects]
        run.resume(torch.arange(self.n), self.subject.layer_of(self.subjects[0].hook), 0, looks)
        return [caught[s.hook] for s in self.subjects]

    def _together(self) -> int:
        """Prompts of one pass."""
        cfg, latents = self.subject.model.cfg, max(s.dictionary.n_latents for s in self.subjects)
        token = 12 * self.subject.d_model + 4 * int(cfg.d_mlp or 0) + 4 * self.length * int(cfg.n_heads) + 6 * latents
        return max(1, spendable(self.subject.device) // (4 * self.length * token + 40 * int(cfg.d_vocab)))


def in_order(subjects: Sequence[Subject]) -> list[Subject]:
    """Readings of one model in the order in which it computes their hook points. ToolError for one hook point twice
    and for latents that are not written where they are read."""
    found = {subject.hook: subject for subject in subjects}
    if len(found) < len(subjects):
        raise ToolError("Two dictionaries read the same hook point: name those of different ones.")
    for subject in subjects:
        subject.check_written()
    some = subjects[0]
    order: dict[str, Tensor] = {}
    with torch.no_grad(), hooked(some, [(hook, keeping(order, hook)) for hook in found]):
        some.model(torch.tensor([[some.bos]], device=some.device), return_type=None)
    if missing := found.keys() - order:
        raise ToolError(f"{some.name} computes nothing at {', '.join(sorted(missing))}: leave that dictionary out.")
    return [found[hook] for hook in order]


def keeping(caught: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    """A hook that keeps what it sees under a name."""

    def keep(value: Tensor) -> None:
        caught[name] = value

    return keep


def encoded(subject: Subject, value: Tensor, start: int = 0, graph: bool = False) -> Tensor:
    """float32[b, s, latents] of a hook point's value [b, s, d_model] from position `start` on, 0 on sinks."""
    spared = subject.sinks(value.detach(), start=start)[..., None]
    return subject.dictionary.encode(value, graph).float().masked_fill(spared, 0)


def named(node: Node, subjects: Sequence[Subject], by_position: bool) -> str:
    """L15F41 or L15error, at a position L15F41@9; where two points are of one layer, L15.mlp_outF41."""
    layers = [subject.layer_of(subject.hook) for subject in subjects]
    hook = subjects[node.point].hook
    place = f".{hook.rpartition('.')[2].removeprefix('hook_')}" if layers.count(layers[node.point]) > 1 else ""
    what = "error" if node.unit == ERROR else f"F{node.unit}"
    return f"L{layers[node.point]}{place}{what}" + (f"@{node.place}" if by_position else "")


def nodes_of(mask: Mask) -> list[Node]:
    """The nodes that a mask names, by point, place and unit, the error last."""
    found = []
    for point, own in enumerate(mask):
        last = own.shape[1] - 1
        found += [Node(point, ERROR if i == last else i, place) for place, i in own.nonzero().tolist()]
    return found


def mask_of(nodes: Iterable[Node], like: Mask) -> Mask:
    """The mask of these nodes, shaped as another."""
    found = [torch.zeros_like(own) for own in like]
    for node in nodes:
        found[node.point][node.place, node.unit] = True
    return found


def complement(mask: Mask) -> Mask:
    """The mask of all other nodes."""
    return [~own for own in mask]


def run_features(
    parts: Sequence[Features], masks: Sequence[Mask], way: float = 1.0, progress: Progress = lambda done, total: None
) -> np.ndarray:
    """float64[masks, n]: the metric on every pair, of several lengths, with each mask's nodes patched."""
    return np.concatenate([part.run(masks, way, progress) for part in parts], axis=1)


def _adding(moved: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda value: value + moved.to(value)
