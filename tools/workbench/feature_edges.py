"""Edges of a sparse feature circuit: what passes from a node to a later one and from there to the metric.

The weight of u -> d is grad_d(metric) . grad_u(d) . (u_corrupted - u_clean), Marks et al. 2403.19647, section 3.1 and
appendix A.1, at the clean prompt: grad_d(metric) by every path, grad_u(d) by direct ones, on which no other dictionary
lies. To that end the value of every hook point begins a graph of its own, so that what one passes on through another
is counted as the other's edges alone. So the edges that leave a node, to all later nodes and to the metric, add up to
its gradient times its change. Vector-Jacobian products: one backward pass for each node d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tools.workbench.features import ERROR, Features, Node, encoded
from tools.workbench.gradients import together
from tools.workbench.patching import Progress
from tools.workbench.resume import hooked


class Weight(NamedTuple):
    """receiver: None is the metric. weight: of how much the metric changes, mean over pairs."""

    sender: Node
    receiver: Node | None
    weight: float


def edge_weights(
    features: Features, nodes: Sequence[Node], by_position: bool, progress: Progress = lambda done, total: None
) -> list[Weight]:
    """Every edge between these nodes, and from them to the metric."""
    receivers: list[Node | None] = [None, *nodes]
    sums: dict[tuple[Node, Node | None], float] = {}
    size = together(features.subject, features.length)
    for begin in range(0, features.n, size):
        cut = Cut(features, list(range(begin, min(begin + size, features.n))))
        for done, receiver in enumerate(receivers, 1):
            senders = [node for node in nodes if receiver is None or node.point < receiver.point]
            if not senders:
                continue
            passed = cut.passed(receiver, by_position)
            for sender in senders:
                by_place = passed[sender.point][..., sender.unit]
                value = by_place[:, sender.place] if by_position else by_place.sum(1)
                sums[sender, receiver] = sums.get((sender, receiver), 0.0) + float(value.sum())
            progress(done, len(receivers))
    return [Weight(*ends, total / features.n) for ends, total in sums.items()]


class Cut:
    """One forward pass over some of the pairs, its graph cut at every hook point.

    gradients: for each point float32[b, s, d_model], the metric's gradient by every path.
    """

    def __init__(self, features: Features, rows: Sequence[int]) -> None:
        self.features, self.rows = features, list(rows)
        self._before: dict[str, Tensor] = {}  # a point's value as the part before makes it
        self._after: dict[str, Tensor] = {}  # the same as the part behind is given it
        subject = features.subject
        tokens = features.into.tokens[self.rows]
        hooks = [(s.hook, self._cutting(s.hook)) for s in features.subjects]
        with torch.enable_grad(), hooked(subject, hooks):
            logits = subject.model(tokens, return_type="logits", **subject.keeping(1))
            self.metric = features.reader.read(tokens, logits, self.rows).sum()
            self._latents = [encoded(s, self._before[s.hook], graph=True) for s in features.subjects]
        self.gradients: list[Tensor] = []
        for point in reversed(range(len(features.subjects))):
            later = [self._before[s.hook] for s in features.subjects[point + 1 :]]
            (gradient,) = self._pulled([self.metric, *later], [None, *self.gradients], [point])
            self.gradients.insert(0, gradient)

    def passed(self, receiver: Node | None, by_position: bool) -> list[Tensor]:
        """For each point before the receiver's float32[b, s, latents + 1]: what its nodes pass to the receiver (None:
        the metric) directly, in change of the metric."""
        features = self.features
        if receiver is None:
            points = range(len(features.subjects))
            pulled = self._pulled([self.metric], [None], points)
        else:
            points = range(receiver.point)
            pulled = self._pulled([self._worth(receiver, by_position)], [None], points)
        found = []
        for point, gradient in zip(points, pulled, strict=True):
            decoder = features.subjects[point].dictionary.decoder.float()
            latents, errors = features.latents[point][self.rows], features.errors[point][self.rows]
            found.append(torch.cat([latents * (gradient @ decoder.T), (errors * gradient).sum(-1, keepdim=True)], -1))
        return found

    def _worth(self, node: Node, by_position: bool) -> Tensor:
        """A node's value times the metric's gradient there, which is held: what is sent to it is sent on so."""
        subject, latents = self.features.subjects[node.point], self._latents[node.point]
        gradient, decoder = self.gradients[node.point], subject.dictionary.decoder.float()
        with torch.enable_grad():
            if node.unit == ERROR:
                error = self._before[subject.hook].float() - latents @ decoder
                by_place = (error * gradient).sum(-1)
            else:
                by_place = latents[..., node.unit] * (gradient @ decoder[node.unit])
            return by_place[:, node.place].sum() if by_position else by_place.sum()

    def _pulled(self, of: Sequence[Tensor], by: Sequence[Tensor | None], points: Sequence[int]) -> list[Tensor]:
        """The gradients of values, weighted, at the points behind their cuts; 0 where no direct path leads."""
        held = [self._after[self.features.subjects[point].hook] for point in points]
        reached = [(value, weight) for value, weight in zip(of, by, strict=True) if value.requires_grad]
        weights = [None if weight is None else weight.to(value) for value, weight in reached]
        found = torch.autograd.grad(
            [value for value, _ in reached], held, weights, retain_graph=True, allow_unused=True
        )
        return [
            torch.zeros_like(value, dtype=torch.float32) if gradient is None else gradient.float()
            for value, gradient in zip(held, found, strict=True)
        ]

    def _cutting(self, hook: str) -> Callable[[Tensor], Tensor]:
        def cut(value: Tensor) -> Tensor:
            self._before[hook] = value
            self._after[hook] = value.detach().requires_grad_(True)
            return self._after[hook]

        return cut
