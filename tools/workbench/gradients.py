"""Gradients of a metric at hook points: a forward pass that keeps its graph, then as many backward passes as wanted.

How to use it: `Graph(subject, tokens, reader, rows, points, hooks)` runs int64[b, s] once, with `hooks` (`Splice`s)
made first; `graph.values[point]` is what a hook point held, `graph.gradients()` the metric's gradient there. A point's
gradient counts what reads the point's value: of a block's `hook_resid_pre` everything after it, of its `ln1.hook_in`
the attention alone, of its `ln2.hook_in` the MLP alone. `without` stops gradients in a layer's contribution (GradDrop).
Prompts that memory holds at once: `together`.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tools.workbench.memory import spendable
from tools.workbench.metrics import Reader
from tools.workbench.resume import hooked
from tools.workbench.subject import Splice, Subject

OUTPUTS = ("hook_attn_out", "hook_mlp_out")


class Graph:
    """One forward pass. metric: float64[b]; values: what each of `points` held, without a graph, of
    those that the model reaches.

    rows: which of the reader's prompts these are. Nothing below the lowest layer of `points` is kept.
    """

    def __init__(
        self,
        subject: Subject,
        tokens: Tensor,
        reader: Reader,
        rows: Sequence[int],
        points: Iterable[str],
        hooks: Sequence[Splice] = (),
    ) -> None:
        wanted = tuple(dict.fromkeys(points))
        self._without: int | None = None
        self._held: dict[str, Tensor] = {}
        lowest = min(subject.layer_of(point) for point in wanted)
        outputs = [(f"blocks.{n}.{out}", n) for n in range(lowest, subject.n_layers) for out in OUTPUTS]
        made: list[Splice] = [*hooks, (subject.residual_points[lowest], _leaf)]
        made += [(point, self._droppable(n)) for point, n in outputs if point in subject.points]
        made += [(point, self._holding(point)) for point in wanted]
        with torch.enable_grad(), hooked(subject, made):
            logits = subject.model(tokens.to(subject.device), return_type="logits", **subject.keeping(1))
            self._metric = reader.read(tokens, logits, rows)
        self.points = tuple(self._held)
        self.metric = self._metric.detach()
        self.values = {point: value.detach() for point, value in self._held.items()}

    def gradients(self, without: int | None = None, points: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The gradient of the sum of the metric at each point, shaped as its value. without: the layer in whose
        contribution to the residual stream gradients stop."""
        names = self.points if points is None else tuple(points)
        self._without = without
        held = [self._held[name] for name in names]
        found = torch.autograd.grad(self._metric.sum(), held, retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(value) if gradient is None else gradient
            for name, value, gradient in zip(names, held, found, strict=True)
        }

    def _holding(self, point: str) -> Callable[[Tensor], Tensor]:
        def hold(value: Tensor) -> Tensor:
            self._held[point] = value.view_as(value)
            return self._held[point]

        return hold

    def _droppable(self, layer: int) -> Callable[[Tensor], Tensor]:
        def drop(gradient: Tensor) -> Tensor | None:
            return torch.zeros_like(gradient) if self._without == layer else None

        def see(value: Tensor) -> Tensor:
            value = value.view_as(value)
            value.register_hook(drop)  # type: ignore[no-untyped-call]
            return value

        return see


def together(subject: Subject, length: int) -> int:
    """How many prompts of `length` tokens a graph may hold in the memory that is free."""
    cfg = subject.model.cfg
    token = 24 * subject.d_model + 8 * subject.d_mlp + 6 * length * subject.n_heads
    return max(1, spendable(subject.device) // (4 * length * token * subject.n_layers + 40 * int(cfg.d_vocab)))


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_(True)
