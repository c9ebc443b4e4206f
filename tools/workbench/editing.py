"""Edits as the model meets them: checked against the subject, then hooks that act on prompts and generated tokens.

A `Change` is an edit of one hook point whose vectors are at hand. It writes c(x) * write, where c depends on what the
token's activation is now, so that controls are the same change written along another direction. An SAE's error term is
never touched: an edited latent moves the residual stream by its own difference times its decoder row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tools.workbench.edits import Edit, Operation
from tools.workbench.registry import ToolError

if TYPE_CHECKING:
    from tools.workbench.directions import Directions
    from tools.workbench.subject import Subject

STRONGEST = 100.0  # times the typical norm of the residual stream; of a scale, times
Hook = tuple[str, Callable[..., Tensor]]


@dataclass(frozen=True, eq=False)
class Change:
    """An edit of one hook point, whose value is [b, s, *shape].

    The activation that it reads is a latent's, the projection on `read` [width], or a whole head's [d_head]; `write`
    receives the change (None: the head itself). `layer`: whose residual stream tells the sinks.

    `write` [n, *shape] holds n directions: a batch is then n blocks of rows, the first written along the first.
    `trace`: changes that share one, at several places, read on as if what they wrote lay along `read`, so that a
    control changes each place as much as the edit, which has nothing more to take where it took before.
    """

    hook: str
    layer: int
    shape: tuple[int, ...]
    operation: Operation
    strength: float
    centre: float = 0.0
    latent: int | None = None
    head: int | None = None
    read: Tensor | None = None
    write: Tensor | None = None
    when_active: bool = False
    positions: tuple[int, ...] | str = "all"
    include_sinks: bool = False
    trace: object | None = None

    @property
    def rows(self) -> int:
        """How many directions are written along at once."""
        return 1 if self.write is None or self.write.ndim == len(self.shape) else len(self.write)

    @property
    def length(self) -> float:
        """Of `write`, or of the first of its directions."""
        return 1.0 if self.write is None else float(self.write.reshape(-1, *self.shape)[0].norm())

    def only(self, which: slice) -> Change:
        """With these of the directions alone."""
        if self.write is None or self.write.ndim == len(self.shape):
            return self
        return replace(self, write=self.write[which])

    def along(self, write: Tensor, trace: object | None = None) -> Change:
        """The same change written along another direction [*shape], or several [n, *shape]."""
        return replace(self, write=write, trace=trace)

    def onto(self, value: Tensor) -> Tensor:
        """`write`, to be multiplied with amounts on value [b, s, *shape]."""
        assert self.write is not None
        write = self.write.to(value)
        if write.ndim == len(self.shape):
            return write
        return write.repeat_interleave(len(value) // len(write), 0)[:, None]

    def delta(self, value: Tensor, latents: Tensor | None) -> Tensor:
        """What is added to `value` [b, s, *shape]; `latents` [b, s, n_latents] where a latent is read."""
        if self.head is not None:
            return self._head(value)
        if self.operation == "add":
            return (self.strength * self.onto(value)).expand_as(value)
        return self.amount(value, latents)[..., None] * self.onto(value)

    def amount(self, value: Tensor, latents: Tensor | None, written: Tensor | None = None) -> Tensor:
        """[b, s]: how much of `write` is added to each token. written: what the trace has added there before."""
        if self.latent is not None:
            assert latents is not None
            now = latents[..., self.latent].to(value)
        else:
            assert self.read is not None
            read = self.read.to(value)
            now = value @ read
            if written is not None:
                now = now + written * (1 - self.onto(value) @ read)
        match self.operation:
            case "ablate":
                wanted = torch.full_like(now, self.centre)
            case "clamp":
                wanted = torch.full_like(now, self.strength)
                if self.when_active:
                    wanted = torch.where(now > 0, wanted, now)
            case _:
                wanted = self.centre + self.strength * (now - self.centre)
        return wanted - now

    def _head(self, value: Tensor) -> Tensor:
        """value: [b, s, heads, d_head]. Along another direction, a change as long as the head's."""
        factor = -1.0 if self.operation == "ablate" else self.strength - 1
        change = factor * value[..., self.head, :]
        if self.write is not None:
            along: Tensor = change.norm(dim=-1)[..., None, None] * self.onto(value)
            return along
        moved = torch.zeros_like(value)
        moved[..., self.head, :] = change
        return moved


class Moves:
    """What the changes did. mean: their mean length over the tokens that they were made on. last: by hook point, what
    the latest pass added to its last token, [b, *shape]."""

    def __init__(self) -> None:
        self.sum, self.n = 0.0, 0
        self.last: dict[str, Tensor] = {}

    @property
    def mean(self) -> float:
        return self.sum / self.n if self.n else 0.0

    def note(self, hook: str, first: bool, moved: Tensor, here: Tensor) -> None:
        """moved: [b, s, *shape], 0 but on the tokens `here` bool[b, s]. first: of the changes of this place."""
        self.sum += float(moved.flatten(2).float().norm(dim=-1).sum())
        self.n += int(here.sum())
        self.last[hook] = moved[:, -1] if first else self.last[hook] + moved[:, -1]


def prepare(subject: Subject, edits: Sequence[Edit], directions: Directions) -> list[Change]:
    """The edits as changes of this subject. ToolError, in one sentence, for what this model does not have."""
    return [change for edit in edits for change in _changes(subject, edit, directions)]


def _changes(subject: Subject, edit: Edit, directions: Directions) -> list[Change]:
    layers, n_layers = edit.layers, subject.n_layers
    for layer in layers if isinstance(layers, tuple) else ():
        if layer >= n_layers:
            raise ToolError(f"Layer {layer} does not exist: {subject.name} has layers 0 to {n_layers - 1}.")
    read = write = None
    shape: tuple[int, ...] = (subject.d_model,)
    if edit.latent is not None:
        subject.check_latent(edit.latent)
        subject.check_written()
        write = subject.dictionary.decoder[edit.latent].float()
        places = [subject.hook]
    elif edit.direction is not None:
        read, found_at = _vector(subject, edit.direction, directions)
        write = read
        if layers == "all":
            places = subject.reading_points if edit.operation == "ablate" else subject.residual_points
        else:
            places = [f"blocks.{layer}.hook_resid_pre" for layer in layers] if layers else [found_at]
    else:
        assert isinstance(layers, tuple)
        width = subject.d_mlp if edit.neuron is not None else subject.n_heads
        index = edit.neuron if edit.neuron is not None else edit.head
        assert index is not None
        if index >= width:
            raise ToolError(f"{edit.kind.capitalize()} {index} does not exist: a layer has 0 to {width - 1}.")
        places = [f"blocks.{layer}.{'mlp.hook_post' if edit.kind == 'neuron' else 'attn.hook_z'}" for layer in layers]
        shape = (width,) if edit.neuron is not None else (width, subject.d_head)
        if edit.neuron is not None:
            read = write = _one_hot(width, index, subject.device)
    strength = 0.0 if edit.strength is None else float(edit.strength)
    changes = []
    points = subject.model.hook_dict  # made anew each time it is asked for
    for hook in places:
        if hook not in points:
            raise ToolError(f"{subject.name} has no hook point {hook}: edit another place.")
        layer = subject.layer_of(hook)
        _check_strength(subject, edit, layer)
        changes.append(
            Change(
                hook=hook,
                layer=layer,
                shape=shape,
                operation=edit.operation,
                strength=strength,
                centre=float(edit.centre),
                latent=edit.latent,
                head=edit.head,
                read=read,
                write=write,
                when_active=edit.when_active,
                positions=edit.positions,
                include_sinks=edit.include_sinks,
            )
        )
    return changes


def _one_hot(width: int, index: int, device: torch.device) -> Tensor:
    vector = torch.zeros(width, device=device)
    vector[index] = 1
    return vector


def _vector(subject: Subject, given: str | tuple[float, ...], directions: Directions) -> tuple[Tensor, str]:
    """A unit vector [d_model] and the hook point it belongs to."""
    if isinstance(given, str):
        found = directions.of_stream(given, subject.name)
        return found.vector.to(subject.device), found.hook
    vector = torch.tensor(given, dtype=torch.float64)
    if len(vector) != subject.d_model:
        raise ToolError(f"A direction has {len(vector)} numbers and {subject.name} needs {subject.d_model}.")
    vector = vector / vector.abs().max()  # first, or the squares of very large or small numbers are infinite or 0
    return (vector / vector.norm()).to(subject.device, torch.float32), subject.hook


def _check_strength(subject: Subject, edit: Edit, layer: int) -> None:
    if edit.strength is None:
        return
    if edit.operation == "scale":
        most, of = STRONGEST, "a scale"
    else:
        most, of = STRONGEST * subject.layer_norms[layer], f"{STRONGEST:g} times the residual stream's norm there"
    if abs(edit.strength) > most:
        raise ToolError(
            f"A strength of {edit.strength:g} would tell nothing but that the model breaks: "
            f"give at most {most:,.0f} ({of})."
        )


def sparing(changes: Sequence[Change]) -> list[int]:
    """The layers whose sinks are spared, where only an unedited pass tells them; none where no edit comes before."""
    layers = _spared(changes)
    return layers if layers and layers != [min(change.layer for change in changes)] else []


def _spared(changes: Sequence[Change]) -> list[int]:
    return sorted({change.layer for change in changes if not change.include_sinks})


def watching(subject: Subject, layers: Sequence[int], sinks: dict[int, Tensor], start: int = 0) -> list[Hook]:
    """Hooks that note for each layer which of the tokens [start, ...) are sinks: sinks[layer] is bool[b, s]."""
    typical = subject.layer_norms  # now: inside a hook the model must not be run

    def look(layer: int) -> Callable[..., Tensor]:
        def see(value: Tensor, hook: object) -> Tensor:
            sinks[layer] = subject.sinks(value, typical[layer], start)
            return value

        return see

    return [(f"blocks.{layer}.hook_resid_pre", look(layer)) for layer in layers]


def hooks(
    subject: Subject,
    changes: Sequence[Change],
    prompt: int,
    start: int = 0,
    moves: Moves | None = None,
    sinks: dict[int, Tensor] | None = None,
) -> list[Hook]:
    """The hooks that make the changes on tokens [start, ...) of texts whose first `prompt` tokens are the prompt.

    sinks: the tokens to spare at each layer of `sparing(changes)`, as `watching` noted them in an unedited pass; None
    where that is none. ToolError for a position that the prompt does not have.
    """
    for change in changes:
        for position in change.positions if isinstance(change.positions, tuple) else ():
            if not -prompt <= position < prompt:
                raise ToolError(f"Position {position} does not exist: the prompt has {prompt} tokens, BOS being 0.")
            if position % prompt == 0 and not change.include_sinks:
                raise ToolError("Position 0 is BOS, an attention sink that edits spare: set include_sinks to edit it.")
    if not changes:
        return []
    known = {} if sinks is None else sinks
    looking = watching(subject, _spared(changes), known, start) if sinks is None else []
    written: dict[object, Tensor] = {}

    def make(point: str, mine: list[Change]) -> Callable[..., Tensor]:
        reads = any(change.latent is not None and change.operation != "add" for change in mine)

        def act(value: Tensor, hook: object) -> Tensor:
            latents = subject.dictionary.encode(value) if reads else None
            for at, change in enumerate(mine):
                here = _selected(change, value.shape[1], prompt, start).to(value.device)
                here = (here if change.include_sinks else here & ~known[change.layer]).expand(value.shape[:2])
                if change.trace is None:
                    moved = change.delta(value, latents) * here.reshape(*here.shape, *[1] * (value.ndim - 2))
                else:
                    before = written.get(change.trace)
                    amount = change.amount(value, latents, before) * here
                    written[change.trace] = amount if before is None else before + amount
                    moved = amount[..., None] * change.onto(value)
                if moves is not None:
                    moves.note(point, at == 0, moved, here)
                value = value + moved
            return value

        return act

    points = list(dict.fromkeys(change.hook for change in changes))
    return looking + [(point, make(point, [c for c in changes if c.hook == point])) for point in points]


def _selected(change: Change, width: int, prompt: int, start: int) -> Tensor:
    """bool[1, width]: which of the tokens [start, start + width) the change is made on."""
    at = torch.arange(start, start + width)[None]
    match change.positions:
        case "all":
            return torch.ones_like(at, dtype=torch.bool)
        case "prompt":
            return at < prompt
        case "generated":
            return at >= prompt
        case positions:
            return torch.isin(at, torch.tensor([int(p) % prompt for p in positions]))
