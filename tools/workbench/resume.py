"""A forward pass that can be taken up again at any layer and position: nothing before them is computed a second time.

How to use it: `Run(subject, tokens)` runs int64[n, s] once and keeps the residual stream entering each layer and the
keys and values. `run.resume(rows, layer, start, hooks)` gives the logits of some of the n prompts (any of them, any
number of times) with hooks made in `layer` and after, on the tokens from `start` on. Hooks are `Splice`s as in
`Subject.logits`; what they get is [len(rows), s - start, ...], so ask `run.starts(start)` first: where it says no, they
get all s tokens. Anything that patches, freezes or ablates forward can be built on this; what needs gradients cannot.

Layers below `layer` are passed over: their blocks hand on what they are given, so that the model's own forward pass
does all the rest (masks, positions, the final norm, caps on logits) whatever its architecture. Positions before `start`
come from the cache of keys and values, where the model keeps a plain one; each run checks itself once and falls back to
computing more when the two ways do not agree.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tools.workbench.subject import Splice, Subject

AGREES = 1e-3  # logits, in float32
AGREES_ROUGHLY = 0.5  # logits, in 16 bits


class Run:
    """n prompts of s tokens, run once. logits: [n, vocabulary] after the last token; residuals: [n, s, d_model]
    entering each layer; last: [n, d_model], the last token's that the final norm reads. Hooks given here are part of
    the run itself."""

    def __init__(self, subject: Subject, tokens: Tensor, hooks: Sequence[Splice] = ()) -> None:
        self.subject = subject
        self.tokens = tokens.to(subject.device)
        self.residuals: list[Tensor] = []
        self._given: list[int] = []  # what each block returns: 0 a tensor, else a tuple of so many
        ends: list[Tensor] = []
        looks = [(point, self.residuals.append) for point in subject.residual_points]
        looks.append((subject.end, ends.append))
        handles = [block.register_forward_hook(self._note) for block in subject.model.blocks]
        try:
            with torch.no_grad(), hooked(subject, [*hooks, *looks]):
                logits, cache = subject.model(self.tokens, return_type="logits_and_cache", use_cache=True)
        finally:
            for handle in handles:
                handle.remove()
        self.logits: Tensor = logits[:, -1]
        self.last = ends[0][:, -1].clone()
        self._cache: Any = cache if _plain(cache, self.tokens.shape[1]) else None
        self._lowest = subject.n_layers
        self._check()

    def resume(
        self, rows: Tensor, layer: int, start: int = 0, hooks: Sequence[Splice] = (), every: bool = False
    ) -> Tensor:
        """[r, 1, vocabulary] logits after the last token of the prompts `rows` int64[r], or after each token from
        `start` on. Hooks below `layer` are not reached."""
        subject = self.subject
        rows = rows.to(subject.device)
        layer = min(layer, self._lowest)
        cached: dict[str, Any] = {}
        if self.starts(start):
            positions = torch.arange(start, self.tokens.shape[1], device=subject.device)[None]
            cached = {"past_key_values": self._before(rows, start, layer), "use_cache": True}
            cached |= {"position_ids": positions.expand(len(rows), -1)}
        tokens = self.tokens[rows, start:]
        residual = self.residuals[layer][rows, start:]
        given = (f"blocks.{layer}.hook_resid_pre", lambda value: residual)
        more = {} if every else subject.keeping(1)
        with torch.no_grad(), self._passing(layer), hooked(subject, [given, *hooks]):
            logits: Tensor = subject.model(tokens, return_type="logits", **cached, **more)
        return logits if every else logits[:, -1:]

    def starts(self, start: int) -> bool:
        """Whether it can be taken up at a position, and not at the first alone."""
        return start > 0 and self._cache is not None

    def _check(self) -> None:
        """Gives up positions, then layers, if taking the run up does not give what it gave."""
        middle, last = self.subject.n_layers // 2, self.tokens.shape[1] - 1
        rows = torch.arange(len(self.tokens))
        tolerance = AGREES if self.logits.dtype == torch.float32 else AGREES_ROUGHLY

        def agrees(start: int) -> bool:
            again = self.resume(rows, middle, start)[:, 0]
            return bool((again - self.logits).abs().max() < tolerance)

        if self.starts(last) and agrees(last):
            return
        self._cache = None
        if not agrees(0):
            self._lowest = 0

    def _note(self, block: Any, args: Any, output: Any) -> None:
        self._given.append(len(output) if isinstance(output, tuple) else 0)

    @contextmanager
    def _passing(self, layer: int) -> Iterator[None]:
        """The blocks below `layer` hand on what they are given."""
        below = list(self.subject.model.blocks)[:layer]
        try:
            for block, given in zip(below, self._given, strict=False):
                object.__setattr__(block, "forward", _hands_on(given))
            yield
        finally:
            for block in below:
                block.__dict__.pop("forward", None)

    def _before(self, rows: Tensor, start: int, layer: int) -> Any:
        """The keys and values of the positions before `start`, for the layers from `layer` on."""
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(each) for each in self._cache.layers]
        for index, each in enumerate(cache.layers):
            each.crop(start - self.tokens.shape[1])
            if index >= layer:
                each.batch_select_indices(rows)
        return cache


@contextmanager
def hooked(subject: Subject, hooks: Sequence[Splice]) -> Iterator[None]:
    """The model with these hooks, in this order; quicker to set than `run_with_hooks`, which sorts out every name."""
    model = subject.model
    level = model.context_level + 1
    points = [(subject.points[name], function) for name, function in hooks]
    try:
        model.context_level = level
        for point, function in points:
            point.add_hook(lambda value, hook, f=function: f(value), level=level)
        yield
    finally:
        for point, _ in points:
            point.remove_hooks(dir="fwd", level=level)
        model.context_level = level - 1


def _hands_on(given: int) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *[None] * (given - 1)) if given else hidden

    return forward


def _plain(cache: Any, length: int) -> bool:
    """Whether every layer keeps the keys and values of all positions."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = getattr(cache, "layers", None) or [None]
    return all(
        type(each) is DynamicLayer or (type(each) is DynamicSlidingWindowLayer and length < each.sliding_window)
        for each in layers
    )
