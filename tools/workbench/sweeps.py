"""A sweep over sites as a tool is asked for it, and what tools that sweep have in common.

How to use it: a tool's input inherits `Sweep`; `where` gives the kind and layers, `pairs_for` the pairs whose positions
can be compared if they must be, `sites_of` the sites, `size_of` how many there will be. `run_all` patches on pairs of
several lengths, `beside` the controls of what was found; `counted` and `seconds` are what an estimate counts with.

Clear is what moves the metric further, by more than chance, than each of nine changes of the same sites that are as
large in random directions, and than other sites do on average: one site that is drawn may matter as well, so that no
single one is a control.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from tools.workbench.causal import RANDOMS
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.pairs import Contrast, Pairs, aligned, batch
from tools.workbench.patching import Mode, Patch, Patcher, Progress
from tools.workbench.registry import ToolError
from tools.workbench.sites import KINDS, PLACES, Kind, Site, named, sweep
from tools.workbench.subject import Subject

ACTIVE = 64  # latents of a token, where the dictionary does not say
SETTING_UP = 6  # passes: both runs, checked, and what is read of them

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


def size_of(context: Context, asked: Sweep, kind: Kind, layers: tuple[int, ...] | None, pairs: Pairs) -> int:
    """How many sites there will be; of latents roughly, so that the model is not run."""
    if kind == "latent" and asked.indices is None:
        tokens = max(len(pair.clean) - pair.places[0] for pair in pairs.kept)
        return 2 * int(context.subject.dictionary.stated_l0 or ACTIVE) * tokens
    return len(sites_of(context, asked, kind, layers, pairs))


def counted(context: Context, asked: Contrast) -> tuple[int, int]:
    """Tokens of the clean prompts, and those from the first that is corrupted on; none for what will be refused."""
    try:
        pairs = aligned(context.subject, asked, context.seed).kept
    except ToolError:
        return 0, 0
    return sum(len(pair.clean) for pair in pairs), sum(len(pair.clean) - pair.places[0] for pair in pairs)


def seconds(subject: Subject, tokens: float, passes: float = 0) -> float:
    """How long forward passes over so many tokens take on this machine, as busy as it is, besides setting up; a
    backward pass takes as long. Without a token there is nothing to set up."""
    if not tokens:
        return 0.0
    own = pace(subject)
    return own.start * (SETTING_UP + passes) + own.token * tokens


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


class Beside(NamedTuple):
    """Changes of the metric under controls: the same sites with what they hold, float64[n], and changed as much in
    random directions, float64[RANDOMS, n]."""

    still: np.ndarray
    randoms: np.ndarray

    @property
    def random(self) -> np.ndarray:
        """That of the random direction that does most."""
        furthest: np.ndarray = max(self.randoms, key=lambda change: abs(float(change.mean())))
        return furthest


def beside(patchers: Sequence[Patcher], sites: tuple[Site, ...]) -> Beside:
    """The controls of these sites, patched together."""
    still, *randoms = run_all(patchers, [Patch(sites, "own"), *(Patch(sites, draw) for draw in range(RANDOMS))])
    return Beside(still, np.array(randoms))


def typical(changes: np.ndarray) -> list[np.ndarray]:
    """The mean of changes [sites, n], each turned the way its own mean is, so that its mean [n] is their mean size;
    none where there are no sites."""
    return [(np.sign(changes.mean(1, keepdims=True)) * changes).mean(0)] if len(changes) else []


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
