"""Which places carry a behaviour: activations of one prompt put into the other, one place at a time."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tools.workbench.causal import said, stands_clear
from tools.workbench.context import Context
from tools.workbench.pairs import Contrast, Dropped, Measured, Pairs, aligned, batch, measure
from tools.workbench.patching import (
    LICENCE,
    PROBABILITY,
    WARNING,
    Mode,
    Patch,
    Patcher,
    Progress,
    Replacement,
    share,
)
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.sitemap import MapRow, SiteEffect, labels, mapped, said_of, site_effect, size
from tools.workbench.sites import KINDS, PLACES, Kind, named, sweep
from tools.workbench.subject import Subject

TOP = 12  # sites that are told one by one
ACTIVE = 64  # latents of a token, where the dictionary does not say
RANDOMS = 5  # other sites that the strongest is compared with
CPU, GPU = 1.5e10, 5e12  # operations a second that an estimate counts on

Index = Annotated[int, Field(ge=0)]


class Input(Contrast):
    """The pairs, and what is patched on them. site: one of the kinds, or one hook point such as blocks.12.attn.hook_z.

    positions: each (a map of layers x positions), all together, or those listed. By default heads, neurons and latents
    are patched at all positions together, the rest at each. indices: of heads, key heads (k, v), neurons or latents.
    """

    site: str = Field("resid_pre", description=f"one of {', '.join(KINDS)}, or a hook point")
    layers: tuple[Index, ...] | None = None
    positions: Literal["each", "all"] | tuple[Index, ...] | None = None
    indices: tuple[Index, ...] | None = Field(None, description="None: all; of latents those that differ")
    mode: Mode = Field("denoising", description="denoising finds what suffices, noising what is necessary")
    metric: Measured = "logit_difference"
    latent: Index | None = Field(None, description="for the metric latent")
    replacement: Replacement = Field("tokens", description="what is put in: the other prompt's values by default")
    window: int = Field(1, ge=1, le=64, description="consecutive layers that are patched together")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if () in (self.layers, self.positions, self.indices):
            raise ValueError("an empty list of layers, positions or indices patches nothing: leave it out")
        return self


class Controls(ToolOutput):
    """The same measure where the answer is known. own_values: the strongest site patched with what it holds (0);
    whole_stream: the residual stream at every position (1; None where nothing is restored as a whole).
    random_direction: the strongest site changed as much in a random direction; random_sites: the mean size over other
    sites of the sweep, drawn at random. Changes of the metric where effects are undefined."""

    own_values: float
    whole_stream: float | None
    random_direction: float
    random_sites: float | None


class Output(ToolOutput):
    """The strongest sites, the map and its controls. clean, corrupted: the metric on each. columns: the map's, by token
    and unit. agreement: correlation over sites between two halves of the pairs. licence: what this may be said to
    show; warnings: what limits it."""

    metric: str
    mode: Mode
    what: str
    pairs: int
    sites: int
    clean: float
    corrupted: float
    strongest: SiteEffect
    top: tuple[SiteEffect, ...]
    columns: tuple[str, ...]
    map: tuple[MapRow, ...]
    controls: Controls
    agreement: float | None
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: half of the layers, for each site and pair; 0 for what will be refused. The model is not run."""
    subject = context.subject
    try:
        kind, layers = _where(subject, input)
        pairs = _pairs(context, input, kind)
        tokens = [len(pair.clean) - pair.places[0] for pair in pairs.kept]
        if kind == "latent" and input.indices is None:
            n = 2 * int(subject.dictionary.stated_l0 or ACTIVE) * max(tokens)
        else:
            n = len(_patches(context, input, kind, layers, pairs))
    except ToolError:
        return 0.0
    weights: int = sum(parameter.numel() for parameter in subject.model.original_model.parameters())
    return n * sum(tokens) * weights / (GPU if subject.device.type == "cuda" else CPU)


@tool(version=1, estimate=estimate)
def activation_patching(input: Input, context: Context) -> Output:
    """Localises a behaviour exactly: patches places of one run with another's values, and measures each.

    Over the residual stream, outputs of attention and MLP, heads (z, q, k, v, pattern), neurons or latents, by layer
    and position. Denoising says what suffices, noising what is necessary. Try the residual stream first, then heads.
    """
    subject = context.subject
    kind, layers = _where(subject, input)
    pairs = _pairs(context, input, kind)
    patches = _patches(context, input, kind, layers, pairs)
    patchers = [
        Patcher(
            context,
            batch(group),
            measure(subject, group, input.metric, input.latent),
            input.mode,
            input.replacement,
        )
        for group in pairs.groups()
    ]
    own, theirs = (np.concatenate([getattr(p, run) for p in patchers]) for run in ("own", "theirs"))
    changes = _run(patchers, patches, context.progress)
    shares = [share(change, theirs - own) for change in changes]
    undefined = shares[0].effect is None
    sizes = np.array([size(change, each) for change, each in zip(changes, shares, strict=True)])
    order = np.argsort(-np.abs(sizes), kind="stable")
    first = patches[order[0]]
    checked = [Patch(first.sites, "own"), Patch(first.sites, "random"), _whole(subject, first)]
    checks = _run(patchers, checked, lambda done, total: None)
    still, random, whole = (size(change, share(change, theirs - own)) for change in checks)
    others = context.rng("activation_patching", input.model_dump_json()).permutation(order[1:])[:RANDOMS]
    controls = Controls(
        own_values=still,
        whole_stream=whole if input.replacement in ("tokens", "gaussian") else None,
        random_direction=random,
        random_sites=float(np.abs(sizes[others]).mean()) if len(others) else None,
    )
    tokens = labels(subject, pairs.kept[0])
    told_sites = [site_effect(patches[i], changes[i], shares[i], tokens) for i in order[:TOP]]
    clear = stands_clear(changes[order[0]], [checks[1], *changes[others[:1]]])
    warnings = _warnings(input, pairs, patchers, undefined)
    clean, corrupted = (theirs, own) if input.mode == "denoising" else (own, theirs)
    metric = measure(subject, pairs.kept, input.metric, input.latent)
    columns, rows = mapped(patches, sizes, tokens)
    best = told_sites[0]
    unit = "of the gap" if best.effect is not None else "in the metric's own unit"
    verdict = (
        f"{input.mode} of {PLACES[kind].words} at {len(patches)} sites on {len(own)} pairs, {metric.words} "
        f"{clean.mean():.3g} clean and {corrupted.mean():.3g} corrupted: strongest is {said_of(best)} {unit}"
        + "".join(f", then {said_of(each)}" for each in told_sites[1:3])
        + f"; patched with its own values {controls.own_values:+.2f}, in a random direction "
        f"{controls.random_direction:+.2f}: {said(clear, len(own))}. {LICENCE[input.mode]}"
        + "".join(f" {warning}" for warning in warnings)
    )
    return Output(
        metric=metric.words,
        mode=input.mode,
        what=PLACES[kind].words,
        pairs=len(own),
        sites=len(patches),
        clean=float(clean.mean()),
        corrupted=float(corrupted.mean()),
        strongest=best,
        top=tuple(told_sites),
        columns=columns,
        map=rows,
        controls=controls,
        agreement=_agreement(changes),
        clear=clear,
        licence=LICENCE[input.mode],
        warnings=warnings,
        dropped=pairs.dropped,
        verdict=verdict,
    )


def _whole(subject: Subject, patch: Patch) -> Patch:
    """The residual stream at every position, entering the patch's first layer."""
    return Patch(tuple(sweep(subject, "resid_pre", [patch.sites[0].layer])))


def _where(subject: Subject, input: Input) -> tuple[Kind, tuple[int, ...] | None]:
    """The kind that is patched, and the layers if they were said."""
    for kind in KINDS:
        if kind == input.site:
            return kind, input.layers
    kind, layer = named(subject, input.site)
    if input.layers is not None:
        raise ToolError(f"{input.site} is of one layer: leave layers out, or give the kind {kind}.")
    return kind, (layer,)


def _positions(input: Input, kind: Kind) -> Literal["each", "all"] | tuple[int, ...]:
    return input.positions or ("all" if PLACES[kind].unit else "each")


def _pairs(context: Context, input: Input, kind: Kind) -> Pairs:
    pairs = aligned(context.subject, input, context.seed)
    return pairs if _positions(input, kind) == "all" else pairs.same_places(context.subject)


def _patches(context: Context, input: Input, kind: Kind, layers: tuple[int, ...] | None, pairs: Pairs) -> list[Patch]:
    """One for each site of the sweep; of a window, the sites of its layers together."""
    subject = context.subject
    positions = _positions(input, kind)
    at: Sequence[int | None] = (None,) if positions == "all" else () if positions == "each" else positions
    at = at or range(len(pairs.kept[0].clean))
    indices = input.indices
    if kind == "latent" and indices is None:
        indices = _differing(context, pairs)
    sites = sweep(subject, kind, layers, at, indices)
    if input.window == 1:
        return [Patch((site,)) for site in sites]
    if PLACES[kind].unit:
        raise ToolError(f"A window of layers has no {PLACES[kind].unit} in common: patch attn_out or mlp_out.")
    columns = [[site for site in sites if site.position == position] for position in at]
    if len(columns[0]) < input.window:
        raise ToolError(f"A window of {input.window} layers is wider than the {len(columns[0])} layers: narrow it.")
    return [
        Patch(tuple(column[i : i + input.window]))
        for i in range(len(columns[0]) - input.window + 1)
        for column in columns
    ]


def _differing(context: Context, pairs: Pairs) -> tuple[int, ...]:
    """The latents whose activation differs between the prompts of any pair."""
    differ = np.zeros(context.subject.dictionary.n_latents, bool)
    for own in map(batch, pairs.groups()):
        clean, corrupted = (context.subject.activations(tokens) for tokens in (own.clean, own.corrupted))
        differ |= (clean != corrupted)[:, own.first :].flatten(0, 1).any(0).cpu().numpy()
    if not differ.any():
        raise ToolError("No latent differs between the prompts: patch the residual stream.")
    return tuple(int(i) for i in np.flatnonzero(differ))


def _run(patchers: Sequence[Patcher], patches: Sequence[Patch], progress: Progress) -> np.ndarray:
    """float64[patches, n]: how the metric changes on every pair."""
    total = len(patches) * sum(patcher.n for patcher in patchers)
    changes, before = [], 0
    for patcher in patchers:
        own = len(patches) * patcher.n
        values = patcher.run(patches, partial(_told, progress, before, own, total))
        changes.append(values - patcher.own)
        before += own
    return np.concatenate(changes, axis=1)


def _told(progress: Progress, before: int, own: int, total: int, done: int, of: int) -> None:
    progress(before + own * done // of, total)


def _agreement(changes: np.ndarray) -> float | None:
    """Correlation over sites between the mean changes of every other pair and the rest; None for fewer than four."""
    if changes.shape[0] < 3 or changes.shape[1] < 4:
        return None
    halves = changes[:, ::2].mean(1), changes[:, 1::2].mean(1)
    return float(np.corrcoef(*halves)[0, 1]) if all(np.ptp(half) > 0 for half in halves) else None


def _warnings(input: Input, pairs: Pairs, patchers: Sequence[Patcher], undefined: bool) -> tuple[str, ...]:
    found = [WARNING[input.replacement], PROBABILITY if input.metric == "probability" else ""]
    if undefined:
        found.append(
            "The metric is the same on clean and corrupted prompts, so that no share of a gap can be stated: values "
            "are changes in its own unit."
        )
    if input.window > 1:
        found.append(
            f"A window of {input.window} layers restores more than its layers do one by one (2309.16042, section 5)."
        )
    notes = [note for patcher in patchers for note in patcher.notes]
    return tuple(dict.fromkeys(filter(None, [*found, *pairs.notes, *notes])))
