"""A sweep over sites as a tool is asked for it, and what tools that sweep have in common.

How to use it: a tool's input inherits `Sweep`; `where` gives the kind and layers, `pairs_for` the pairs whose positions
can be compared if they must be, `sites_of` the sites. `run_all` patches on pairs of several lengths, `labels` names the
columns of a map and `heat_map` draws it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tools.workbench.context import Context
from tools.workbench.pairs import Aligned, Contrast, Pairs, aligned, batch
from tools.workbench.patching import Mode, Patch, Patcher, Progress
from tools.workbench.registry import ToolError, ToolOutput
from tools.workbench.sites import KINDS, PLACES, Kind, Site, named, sweep
from tools.workbench.subject import Subject

MAPPED = 10_000  # sites of a map
CPU, GPU = 1.5e10, 5e12  # operations a second that an estimate counts on

Index = Annotated[int, Field(ge=0)]


class Sweep(Contrast):
    """The pairs, and what is patched on them. site: one of the kinds, or one hook point such as blocks.12.attn.hook_z.

    positions: each (a map of layers x positions), all together, or those listed. By default heads, neurons and latents
    are patched at all positions together, the rest at each. indices: of heads, key heads (k, v), neurons or latents.
    """

    site: str = Field("resid_pre", description=f"one of {', '.join(KINDS)}, or a hook point")
    layers: tuple[Index, ...] | None = None
    positions: Literal["each", "all"] | tuple[Index, ...] | None = None
    indices: tuple[Index, ...] | None = Field(None, description="None: all; of latents those that differ")
    mode: Mode = Field("denoising", description="denoising finds what suffices, noising what is necessary")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if () in (self.layers, self.positions, self.indices):
            raise ValueError("an empty list of layers, positions or indices patches nothing: leave it out")
        return self


class HeatMap(ToolOutput):
    """values[row][column]."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


def where(subject: Subject, asked: Sweep) -> tuple[Kind, tuple[int, ...] | None]:
    """The kind that is patched, and the layers if they were said."""
    for kind in KINDS:
        if kind == asked.site:
            return kind, asked.layers
    kind, layer = named(subject, asked.site)
    if asked.layers is not None:
        raise ToolError(f"{asked.site} is of one layer: leave layers out, or give the kind {kind}.")
    return kind, (layer,)


def pairs_for(context: Context, asked: Sweep, kind: Kind) -> Pairs:
    """The pairs; where positions are patched one by one, those in which they mean the same."""
    pairs = aligned(context.subject, asked, context.seed)
    return pairs if _positions(asked, kind) == "all" else pairs.same_places(context.subject)


def positions_of(asked: Sweep, kind: Kind, pairs: Pairs) -> Sequence[int | None]:
    """Each position that is patched; None is all of them together."""
    positions = _positions(asked, kind)
    if positions == "all":
        return (None,)
    return range(len(pairs.kept[0].clean)) if positions == "each" else positions


def sites_of(context: Context, asked: Sweep, kind: Kind, layers: tuple[int, ...] | None, pairs: Pairs) -> list[Site]:
    """The sites of the sweep; of latents those that differ between the prompts, unless some are named."""
    indices = asked.indices
    if kind == "latent" and indices is None:
        indices = _differing(context, pairs)
    return sweep(context.subject, kind, layers, positions_of(asked, kind, pairs), indices)


def seconds(subject: Subject, tokens: float) -> float:
    """How long a forward pass over so many tokens takes, roughly; a backward pass takes as long."""
    weights = sum(parameter.numel() for parameter in subject.model.original_model.parameters())
    return float(2 * weights * tokens) / (GPU if subject.device.type == "cuda" else CPU)


def run_all(
    patchers: Sequence[Patcher], patches: Sequence[Patch], progress: Progress = lambda done, total: None
) -> np.ndarray:
    """float64[patches, n]: how the metric changes on every pair."""
    total = len(patches) * sum(patcher.n for patcher in patchers)
    changes, before = [], 0
    for patcher in patchers:
        own = len(patches) * patcher.n
        values = patcher.run(patches, partial(_told, progress, before, own, total))
        changes.append(values - patcher.own)
        before += own
    return np.concatenate(changes, axis=1)


def labels(subject: Subject, pair: Aligned) -> list[str]:
    """The first pair's tokens, as it calls them: what both prompts hold, its role."""
    roles = {position: role for role, position in pair.roles}
    both = zip(*(subject.token_strings(tokens) for tokens in (pair.clean, pair.corrupted)), strict=True)
    return [
        (a if a == b else f"{a}/{b}") + (f" {roles[position]}" if position in roles else "")
        for position, (a, b) in enumerate(both)
    ]


def heat_map(sites: Sequence[Site], sizes: np.ndarray, tokens: Sequence[str]) -> HeatMap | None:
    """Layers x positions or units, of a number for each site; None where there are too many to look at."""
    if len(sites) > MAPPED:
        return None
    columns = list(dict.fromkeys((site.position, site.index) for site in sites))
    rows: dict[int, list[float]] = {}
    for site, size in zip(sites, sizes, strict=True):
        rows.setdefault(site.layer, []).append(float(size))
    names = [
        " ".join([*([] if index is None else [str(index)]), *([] if position is None else [tokens[position]])])
        for position, index in columns
    ]
    return HeatMap(
        rows=tuple(f"L{layer}" for layer in rows),
        columns=tuple(name or "all" for name in names),
        values=tuple(tuple(row) for row in rows.values()),
    )


def _positions(asked: Sweep, kind: Kind) -> Literal["each", "all"] | tuple[int, ...]:
    return asked.positions or ("all" if PLACES[kind].unit else "each")


def _differing(context: Context, pairs: Pairs) -> tuple[int, ...]:
    """The latents whose activation differs between the prompts of any pair."""
    differ = np.zeros(context.subject.dictionary.n_latents, bool)
    for own in map(batch, pairs.groups()):
        clean, corrupted = (context.subject.activations(tokens) for tokens in (own.clean, own.corrupted))
        differ |= (clean != corrupted)[:, own.first :].flatten(0, 1).any(0).cpu().numpy()
    if not differ.any():
        raise ToolError("No latent differs between the prompts: patch the residual stream.")
    return tuple(int(i) for i in np.flatnonzero(differ))


def _told(progress: Progress, before: int, own: int, total: int, done: int, of: int) -> None:
    progress(before + own * done // of, total)
