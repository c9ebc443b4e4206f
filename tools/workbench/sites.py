"""The places inside the model that can be patched: their names, how each is read and how it is written.

How to use it: a `Site` is a kind, a layer, a position (None: every one) and the index of a head, neuron or latent
(None: all). `sweep` lists the sites of a kind. `point(subject, kind, layer)` is the hook point to hook, `read` turns
its value into the kind's own tensor, and `write` puts other values where a `mask` says. Values are [b, s, d] for the
residual stream and outputs, [b, s, heads, d_head] for z, q, k, v, [b, heads, query, key] for patterns, [b, s, units]
for neurons and latents. With grouped-query attention k and v have fewer heads than q and z; their indices count those.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject

Kind = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern", "neuron", "latent"
]
At = tuple[Kind, int]  # and the layer
KINDS: tuple[Kind, ...] = get_args(Kind)


class Place(NamedTuple):
    """The hook point within a block, what its units are (None: it is patched as a whole), and words for a reader."""

    point: str
    unit: str | None
    words: str


PLACES: dict[Kind, Place] = {
    "resid_pre": Place("hook_resid_pre", None, "the residual stream entering the layer"),
    "resid_mid": Place("hook_resid_mid", None, "what the MLP reads of the residual stream"),
    "resid_post": Place("hook_resid_post", None, "the residual stream leaving the layer"),
    "attn_out": Place("hook_attn_out", None, "the attention's output"),
    "mlp_out": Place("hook_mlp_out", None, "the MLP's output"),
    "z": Place("attn.hook_z", "head", "the head's output before W_O"),
    "q": Place("attn.hook_q", "head", "the head's query, before rotation"),
    "k": Place("attn.hook_k", "key head", "the key head's key, before rotation"),
    "v": Place("attn.hook_v", "key head", "the key head's value"),
    "pattern": Place("attn.hook_pattern", "head", "the head's attention pattern, by query position"),
    "neuron": Place("mlp.hook_post", "neuron", "the neuron's activation"),
    "latent": Place("", "latent", "the latent's activation, the dictionary's error left as it is"),
}
STREAM = "Patch the residual stream, or the outputs of attention and MLP"


@dataclass(frozen=True)
class Site:
    """One place. position: None is every one. index: a head, key head (k, v), neuron or latent; None is all."""

    kind: Kind
    layer: int
    position: int | None = None
    index: int | None = None

    @property
    def at(self) -> At:
        return self.kind, self.layer

    @property
    def unit(self) -> str:
        """H3, KV1, N200 or F41; "" where it is all of them."""
        if self.index is None:
            return ""
        letter = {"neuron": "N", "latent": "F", "k": "KV", "v": "KV"}.get(self.kind, "H")
        return f"{letter}{self.index}"

    def __str__(self) -> str:
        at = "" if self.position is None else f" @ {self.position}"
        return f"L{self.layer}{self.unit} {self.kind}{at}"


def point(subject: Subject, kind: Kind, layer: int) -> str:
    """The hook point of a kind. ToolError for a layer or a place that this model does not have."""
    if kind == "latent":
        subject.check_written()
        hook = subject.dictionary.hook
        if layer != subject.layer_of(hook):
            raise ToolError(
                f"The dictionary {subject.dictionary.name!r} reads layer {subject.layer_of(hook)}: name it."
            )
        return subject.hook
    if not 0 <= layer < subject.n_layers:
        raise ToolError(f"Layer {layer} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    hook = f"blocks.{layer}.{PLACES[kind].point}"
    if hook not in subject.points:
        if PLACES[kind].unit in ("head", "key head"):
            raise ToolError(f"{subject.name} has no separate attention heads in layer {layer} ({hook}). {STREAM}.")
        raise ToolError(f"{subject.name} has no hook point {hook}: the nearest are {nearest(subject, hook)}.")
    return hook


def nearest(subject: Subject, hook: str) -> str:
    """The hook points whose names are nearest to `hook`, for a sentence."""
    return ", ".join(get_close_matches(hook, subject.points, n=4, cutoff=0.3)) or "none"


def named(subject: Subject, hook: str) -> tuple[Kind, int]:
    """The kind and layer of a hook point as its model calls it. ToolError, with the nearest names, when it is none."""
    for layer in range(subject.n_layers):
        for kind in KINDS:
            if kind != "latent" and hook == f"blocks.{layer}.{PLACES[kind].point}" and hook in subject.points:
                return kind, layer
    offered = {f"blocks.{n}.{place.point}" for n in range(subject.n_layers) for place in PLACES.values() if place.point}
    found = get_close_matches(hook, [*KINDS, *sorted(offered & set(subject.points))], n=4, cutoff=0)
    raise ToolError(f"{subject.name} has no hook point {hook} that can be patched: the nearest are {', '.join(found)}.")


def units(subject: Subject, kind: Kind) -> int | None:
    """How many heads, key heads, neurons or latents a layer has; None where the kind is patched as a whole."""
    match PLACES[kind].unit:
        case "head":
            return subject.n_heads
        case "key head":
            return int(getattr(subject.model.cfg, "n_key_value_heads", None) or subject.n_heads)
        case "neuron":
            return subject.d_mlp
        case "latent":
            return subject.dictionary.n_latents
        case _:
            return None


def sweep(
    subject: Subject,
    kind: Kind,
    layers: Iterable[int] | None = None,
    positions: Sequence[int | None] = (None,),
    indices: Sequence[int] | None = None,
) -> list[Site]:
    """The sites of a kind: every layer x position x unit unless told otherwise. ToolError for what does not exist."""
    if layers is None:
        layers = [subject.layer_of(subject.dictionary.hook)] if kind == "latent" else range(subject.n_layers)
    n = units(subject, kind)
    if indices is not None and n is None:
        raise ToolError(f"{PLACES[kind].words.capitalize()} has no units: leave indices out.")
    for index in indices or ():
        if not 0 <= index < (n or 0):
            raise ToolError(f"{(PLACES[kind].unit or '').capitalize()} {index} does not exist: there are {n}.")
    chosen: Sequence[int | None] = (None,) if n is None else tuple(indices) if indices is not None else range(n)
    found = []
    for layer in layers:
        point(subject, kind, layer)
        found += [Site(kind, layer, position, index) for position in positions for index in chosen]
    return found


def read(subject: Subject, kind: Kind, value: Tensor, start: int = 0) -> Tensor:
    """What a hook point holds as the kind's own tensor: latents [b, s, n_latents], 0 on sinks; else the value itself.

    start: the position of the value's first token. ToolError when the model does not keep its heads apart.
    """
    if kind == "latent":
        activations = subject.dictionary.encode(value)
        activations[subject.sinks(value, start=start)] = 0
        return activations
    if PLACES[kind].unit in ("head", "key head"):
        axis = 1 if kind == "pattern" else 2
        if value.ndim != 4 or value.shape[axis] != units(subject, kind):
            raise ToolError(f"{subject.name} does not keep its attention heads apart. {STREAM}.")
    return value


def mask(
    subject: Subject, sites: Sequence[Sequence[Site]], kind: Kind, start: int, length: int, first: int = 0
) -> Tensor:
    """bool[b, s] or bool[b, s, units] (pattern: [b, heads, s]): what each row's sites, all of one kind, select of the
    tokens [start, length). Sites of every position begin at `first`."""
    n = units(subject, kind)
    chosen = torch.zeros(len(sites), length - start, *([] if n is None else [n]), dtype=torch.bool)
    for row, own in enumerate(sites):
        for site in own:
            begin = max(first - start, 0) if site.position is None else site.position - start
            at = slice(begin, None if site.position is None else begin + 1)
            if begin < 0:
                continue
            if n is None or site.index is None:
                chosen[row, at] = True
            else:
                chosen[row, at, site.index] = True
    return (chosen.transpose(1, 2) if kind == "pattern" else chosen).to(subject.device)


def from_position(kind: Kind, value: Tensor, start: int) -> Tensor:
    """The tensor of a kind on the tokens from `start` on."""
    return value[:, :, start:] if kind == "pattern" else value[:, start:]


def write(subject: Subject, kind: Kind, value: Tensor, theirs: Tensor, chosen: Tensor, start: int = 0) -> Tensor:
    """`value` of a hook point with `theirs`, as `read` gives it, where `chosen` (of `mask`) is true."""
    if kind == "latent":
        difference = torch.where(chosen, theirs - read(subject, kind, value, start), 0)
        return value + (difference @ subject.dictionary.decoder.to(difference)).to(value)
    return torch.where(_spread(chosen, value), theirs.to(value), value)


def along(kind: Kind, change: Tensor, direction: Tensor, chosen: Tensor) -> Tensor:
    """`direction` within the chosen units, at each position as long as `change`; both as the hook point's value."""
    axes = (1, 3) if kind == "pattern" else tuple(range(2, change.ndim))
    if kind != "latent":
        direction = direction * _spread(chosen, direction)
    length = direction.norm(dim=axes, keepdim=True).clamp(min=torch.finfo(direction.dtype).tiny)
    scaled: Tensor = direction / length * change.norm(dim=axes, keepdim=True)
    return scaled


def _spread(chosen: Tensor, value: Tensor) -> Tensor:
    return chosen.reshape(*chosen.shape, *[1] * (value.ndim - chosen.ndim))
