"""Which places carry a behaviour: activations of one prompt put into the other, one place at a time."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from tools.workbench.causal import RANDOMS, said
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap
from tools.workbench.pairs import Dropped, Measured, Pairs, batch, measure
from tools.workbench.patching import LICENCE, PROBABILITY, SCALE, SHOWS, WARNING, Mode, Patch, Patcher, Replacement
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.repair import Repair, SelfRepair, attached, of_patch, repair_said
from tools.workbench.shares import share, share_stands_clear
from tools.workbench.sitemap import SiteEffect, labels, mapped, said_at, said_of, site_effect, size, size_of_effect
from tools.workbench.sites import PLACES, Kind, sweep
from tools.workbench.subject import Subject
from tools.workbench.sweeps import (
    Index,
    Sweep,
    beside,
    pairs_for,
    positions_of,
    run_all,
    seconds,
    sites_of,
    size_of,
    typical,
    where,
)

TOP = 12  # sites that are told one by one
RESTORED = ("tokens", "gaussian")  # replacements of which both runs are known as a whole
OTHERS = 9  # sites, drawn at random, that the strongest is compared with


class Input(Sweep):
    """The pairs, and what is patched on them: see `Sweep`."""

    metric: Measured = "logit_difference"
    latent: Index | None = Field(None, description="for the metric latent")
    replacement: Replacement = Field("tokens", description="what is put in: the other prompt's values by default")
    window: int = Field(1, ge=1, le=64, description="consecutive layers that are patched together")


class Controls(ToolOutput):
    """The same measure where the answer is known. own_values: the strongest site patched with what it holds (0);
    whole_stream: the residual stream at every position (1; None where nothing is restored as a whole). randoms: the
    strongest site changed as much in random directions; random_direction: the one that does most. others: other sites
    of the sweep, drawn at random; random_sites: their mean size. Changes of the metric where effects are undefined."""

    own_values: float
    whole_stream: float | None
    random_direction: float
    randoms: tuple[float, ...]
    random_sites: float | None
    others: tuple[float, ...]


class Output(ToolOutput):
    """The strongest sites, the map and its controls. clear: whether the strongest does more, by more than chance, than
    each random direction and than other sites on average. clean, corrupted: the metric on each. agreement: correlation
    over sites between two halves of the pairs. self_repair: of noising, what of the strongest site's loss is direct and
    what later parts make of it, or why that is not told. licence: what this may be said to show; warnings: its
    limits."""

    metric: str
    mode: Mode
    what: str
    pairs: int
    sites: int
    clean: float
    corrupted: float
    strongest: SiteEffect
    top: tuple[SiteEffect, ...]
    map: HeatMap | None
    controls: Controls
    agreement: float | None
    self_repair: SelfRepair | str | None
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: half of the layers, for each site and pair; 0 for what will be refused."""
    subject = context.subject
    try:
        kind, layers = where(subject, input)
        pairs = pairs_for(context, input, kind)
        n = size_of(context, input, kind, layers, pairs)
    except ToolError:
        return 0.0
    changed = sum(len(pair.clean) - pair.places[0] for pair in pairs.kept)
    return seconds(subject, n * changed / 2, len(layers or range(subject.n_layers)))


@tool(version=4, estimate=estimate)
def activation_patching(input: Input, context: Context) -> Output:
    """Localises a behaviour exactly: patches places of one run with another's values, and measures each.

    Over the residual stream, outputs of attention and MLP, heads (z, q, k, v, pattern), neurons or latents, by layer
    and position. Denoising says what suffices, noising what is necessary. Try the residual stream first, then heads.
    """
    subject = context.subject
    kind, layers = where(subject, input)
    pairs = pairs_for(context, input, kind)
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
    changes = run_all(patchers, patches, context.stage("patching"))
    shares = [share(change, theirs - own) for change in changes]
    undefined = shares[0].effect is None
    sizes = np.array([size(change, each) for change, each in zip(changes, shares, strict=True)])
    order = np.argsort(-np.abs(sizes), kind="stable")
    first = patches[order[0]]
    checks = beside(patchers, first.sites)
    others = context.rng("activation_patching", input.model_dump_json()).permutation(order[1:])[:OTHERS]

    def sized(change: np.ndarray) -> float:
        return size(change, share(change, theirs - own))

    controls = Controls(
        own_values=sized(checks.still),
        whole_stream=sized(run_all(patchers, [_whole(subject, first)])[0]) if input.replacement in RESTORED else None,
        random_direction=sized(checks.random),
        randoms=tuple(sized(change) for change in checks.randoms),
        random_sites=float(np.abs(sizes[others]).mean()) if len(others) else None,
        others=tuple(sizes[others].tolist()),
    )
    tokens = labels(subject, pairs.kept[0])
    told_sites = [site_effect(patches[i], changes[i], shares[i], tokens) for i in order[:TOP]]
    chance = [*checks.randoms, *typical(changes[others])]
    clear = share_stands_clear(changes[order[0]], chance, theirs - own)
    warnings = _warnings(input, pairs, patchers, undefined)
    clean, corrupted = (theirs, own) if input.mode == "denoising" else (own, theirs)
    metric = measure(subject, pairs.kept, input.metric, input.latent)
    repair = None
    if input.mode == "noising":
        repair = attached(lambda: Repair.joined([of_patch(each, first) for each in patchers]))
    best = told_sites[0]
    unit = "of the gap" if best.effect is not None else "in the metric's own unit"
    verdict = (
        f"{input.mode} of {PLACES[kind].words} at {len(patches)} sites on {len(own)} pairs, {metric.words} "
        f"{clean.mean():.3g} clean and {corrupted.mean():.3g} corrupted: strongest is {said_of(best)} {unit}"
        + "".join(f", then {said_of(each)}" for each in told_sites[1:3])
        + f"; patched with its own values {controls.own_values:+z.2f}, in {RANDOMS} random directions at most "
        f"{controls.random_direction:+z.2f}"
        + (f"; {len(others)} other sites {controls.random_sites:.2f} on average" if len(others) else "")
        + f": {said(clear, len(own))}. {SHOWS[input.mode]}"
        + ("" if repair is None else f" {repair_said(repair, f'What {best.site} loses')}")
        + "".join(f" {warning}" for warning in warnings)
    )
    map = mapped([patch.sites[0] for patch in patches], sizes, tokens)
    title = f"Activation patching, {input.mode}, of {PLACES[kind].words}, {len(own)} pairs: {metric.words}"
    scale = SCALE[input.mode] if best.effect is not None else "change of the metric"
    bars = [Bar(said_at(each), size_of_effect(each), each.low, each.high) for each in told_sites]
    bars += [
        Bar(f"control: {name.replace('_', ' ')}", value, beside=True)
        for name, value in controls
        if isinstance(value, float)
    ]
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
        map=map,
        controls=controls,
        agreement=_agreement(changes),
        self_repair=repair,
        clear=clear,
        licence=LICENCE[input.mode],
        warnings=warnings,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "activation_patching",
            input,
            map=Picture(title, map, scale, controls_said(controls)) if map else None,
            strongest=Picture(f"{title}; the strongest sites", Bars(tuple(bars)), scale),
        ),
        verdict=verdict,
    )


def _whole(subject: Subject, patch: Patch) -> Patch:
    """The residual stream at every position, entering the patch's first layer."""
    return Patch(tuple(sweep(subject, "resid_pre", [patch.sites[0].layer])))


def _patches(context: Context, input: Input, kind: Kind, layers: tuple[int, ...] | None, pairs: Pairs) -> list[Patch]:
    """One for each site of the sweep; of a window, the sites of its layers together."""
    sites = sites_of(context, input, kind, layers, pairs)
    if input.window == 1:
        return [Patch((site,)) for site in sites]
    if PLACES[kind].unit:
        raise ToolError(f"A window of layers has no {PLACES[kind].unit} in common: patch attn_out or mlp_out.")
    at = positions_of(input, kind, pairs)
    columns = [[site for site in sites if site.position == position] for position in at]
    if len(columns[0]) < input.window:
        raise ToolError(f"A window of {input.window} layers is wider than the {len(columns[0])} layers: narrow it.")
    return [
        Patch(tuple(column[i : i + input.window]))
        for i in range(len(columns[0]) - input.window + 1)
        for column in columns
    ]


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
