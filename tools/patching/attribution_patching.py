"""Which places carry a behaviour, estimated for all of them from one gradient and verified where it matters."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tools.workbench.attribution import Estimates, estimated
from tools.workbench.causal import RANDOMS, said, told
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap
from tools.workbench.pairs import Dropped, batch, measure
from tools.workbench.patching import LICENCE, PROBABILITY, SCALE, SHOWS, Mode, Patch, Patcher, Progress
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.shares import share, share_stands_clear
from tools.workbench.sitemap import labels, mapped
from tools.workbench.sites import PLACES, Site
from tools.workbench.sweeps import Sweep, beside, pairs_for, run_all, seconds, sites_of, typical, where
from tools.workbench.verifying import by_chance, missed_at_most, rank_correlation

SUBSETS = 16  # random halves of the sites that were not verified
DRAWN = 12  # verified sites of a picture
LARGE = 0.1  # of the strongest site's effect: a wrong sign of less does not count
ESTIMATES = (
    "Estimates are first order, one site at a time: only effects under 'exact' were measured, and a site that is "
    "neither verified nor excluded by the bound may matter all the same."
)


class Input(Sweep):
    """The pairs, and what is estimated on them: see `Sweep`. qk_fix and grad_drop are the corrections of AtP*."""

    site: str = Field("z", description="z, q, k, v, pattern, attn_out, mlp_out, resid_pre, neuron, latent and others")
    metric: Literal["logit_difference", "log_probability", "probability", "kl"] = "logit_difference"
    qk_fix: bool = Field(True, description="of q and k: compute the softmax anew under the patch")
    grad_drop: bool = Field(True, description="rank by sizes that survive cancellation; a backward pass a layer")
    top: int = Field(12, ge=1, le=200, description="strongest by estimate, verified by exact patching")
    sample: int = Field(12, ge=3, le=500, description="others, drawn at random, verified too")


class Verified(ToolOutput):
    """A site, its estimated and its exact effect: changes of the metric, and the exact one as a share of the way to the
    other run with a 95 % interval over pairs. drawn: whether it is of the random sample."""

    site: str
    layer: int
    position: int | None
    token: str | None
    index: int | None
    estimate: float
    exact: float
    effect: float | None
    low: float | None
    high: float | None
    drawn: bool


class Controls(ToolOutput):
    """Exact effects, shares of the gap (changes where that is undefined): the strongest site patched with what it holds
    (0), and changed as much in random directions (randoms; random_direction: the one that does most); random_sites:
    mean size over the random sample. permuted: mean size of the rank correlation when estimates are dealt out to other
    sites."""

    own_values: float
    random_direction: float
    randoms: tuple[float, ...]
    random_sites: float | None
    permuted: float | None


class Output(ToolOutput):
    """The verified sites, strongest first by exact effect, and the map of estimates (shares of the way to the other
    run; changes where that is undefined).

    correlation: Spearman's, of estimate and exact change over all that was verified; on_sample: over the random sample
    alone, which is not chosen by estimate. size_correlations: of the exact sizes and what sites were ranked by, which
    is the estimates' size and, with grad_drop, what survives it; the verified are the first of each in turn. misses:
    sites of the sample that move the metric more than half of the verified top do. wrong_signs: verified sites with a
    tenth of the strongest effect or more whose estimate has the other sign. clear: whether the strongest does more, by
    more than chance, than each random direction and than the sample on average. missed_at_most: no site that was not
    verified moves the metric by more (95 %), given a random half of the others patched. forward, backward: passes over
    all pairs that the estimates took.
    """

    metric: str
    mode: Mode
    what: str
    pairs: int
    sites: int
    clean: float
    corrupted: float
    top: tuple[Verified, ...]
    map: HeatMap | None
    correlation: float | None
    on_sample: float | None
    size_correlations: tuple[float | None, ...]
    misses: tuple[str, ...]
    wrong_signs: tuple[str, ...]
    missed_at_most: float | None
    forward: int
    backward: int
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: of the gradients, the exact patches, and the subsets."""
    subject = context.subject
    try:
        kind, _ = where(subject, input)
        pairs = pairs_for(context, input, kind).kept
    except ToolError:
        return 0.0
    whole = sum(len(pair.clean) for pair in pairs)
    changed = sum(len(pair.clean) - pair.places[0] for pair in pairs)
    passes = 4 + (subject.n_layers if input.grad_drop else 0)
    verified = (input.top + input.sample) / 2
    return seconds(subject, passes * whole + (verified + SUBSETS) * changed, (passes + verified) / 2)


@tool(version=4, estimate=estimate)
def attribution_patching(input: Input, context: Context) -> Output:
    """Localises a behaviour fast: estimates every site's patch from gradients, then verifies the strongest exactly.

    AtP* (Kramár et al. 2403.00745): two forward passes and one backward for all heads, neurons, latents or positions,
    one more backward a layer with grad_drop. Says how well estimates rank, what they missed, and how much may be
    hidden in what was not verified. For few sites use activation_patching, which is exact.
    """
    subject = context.subject
    if input.metric == "kl" and input.mode == "noising":
        raise ToolError(
            "In the clean run the KL divergence from it is 0, where its gradient is 0 too, so that nothing can be "
            "estimated: use denoising, where it is measured from the corrupted run, or another metric."
        )
    kind, layers = where(subject, input)
    pairs = pairs_for(context, input, kind)
    sites = sites_of(context, input, kind, layers, pairs)
    if len(sites) < 3:
        raise ToolError(f"There are {len(sites)} sites to rank: patch them with activation_patching.")
    patchers = [Patcher(context, batch(g), measure(subject, g, input.metric), input.mode) for g in pairs.groups()]
    own, theirs = (np.concatenate([getattr(p, run) for p in patchers]) for run in ("own", "theirs"))
    estimating = context.stage("estimating")
    found = _joined([estimated(p, sites, input.qk_fix, input.grad_drop, estimating) for p in patchers])
    values = found.values.mean(1)
    rankings = [np.abs(values), *([found.sizes.mean(1)] if input.grad_drop else [])]
    rng = context.rng("attribution_patching", input.model_dump_json())
    order = _interleaved(rankings)
    top = order[: input.top]
    drawn = rng.permutation(order[input.top :])[: input.sample]
    chosen = [*top, *drawn]
    exact = run_all(patchers, [Patch((sites[i],)) for i in chosen], context.stage("verifying"))
    means = exact.mean(1)
    best = int(np.abs(means).argmax())
    checks = beside(patchers, (sites[chosen[best]],))
    others = np.array([at for at in range(len(top), len(chosen)) if at != best], int)
    inside, subsets = _halves(patchers, sites, order[len(top) :], set(drawn), rng, context.stage("looking for misses"))
    bar = float(np.median(np.abs(means[: len(top)])))
    misses = [str(sites[i]) for i, mean in zip(drawn, means[len(top) :], strict=True) if abs(mean) > bar]
    large = np.abs(means) >= LARGE * abs(means[best])
    wrong = [str(sites[i]) for i, big, mean in zip(chosen, large, means, strict=True) if big and values[i] * mean < 0]
    undefined = share(exact[best], theirs - own).effect is None
    gap = 1.0 if undefined else float((theirs - own).mean())
    tokens = labels(subject, pairs.kept[0])
    controls = Controls(
        own_values=float(checks.still.mean()) / gap,
        random_direction=float(checks.random.mean()) / gap,
        randoms=tuple((checks.randoms.mean(1) / gap).tolist()),
        random_sites=float(np.abs(means[others] / gap).mean()) if len(others) else None,
        permuted=by_chance(values[chosen], means, rng),
    )
    correlation = rank_correlation(values[chosen], means)
    bound = missed_at_most(inside, subsets)
    rows = [_row(sites[i], values[i], exact[at], theirs - own, tokens, at >= len(top)) for at, i in enumerate(chosen)]
    clear = share_stands_clear(exact[best], [*checks.randoms, *typical(exact[others])], theirs - own)
    warnings = [PROBABILITY if input.metric == "probability" else "", ESTIMATES, *found.notes, *pairs.notes]
    if undefined:
        warnings.append("The metric is the same on clean and corrupted prompts: values are changes in its own unit.")
    warnings += [note for patcher in patchers for note in patcher.notes]
    warned = tuple(dict.fromkeys(filter(None, warnings)))
    metric = measure(subject, pairs.kept, input.metric)
    clean, corrupted = (theirs, own) if input.mode == "denoising" else (own, theirs)
    rows = [rows[at] for at in np.argsort(-np.abs(means), kind="stable")]
    verdict = (
        f"{input.mode} of {PLACES[kind].words} at {len(sites)} sites on {len(own)} pairs, {metric.words} "
        f"{clean.mean():.3g} clean and {corrupted.mean():.3g} corrupted, {len(chosen)} verified exactly: strongest "
        + ", then ".join(f"{each.site} {_exact(each)} (estimate {each.estimate / gap:+z.2f})" for each in rows[:3])
        + f" {'in the metric' if undefined else 'of the gap'}"
        + f"; rank correlation {_number(correlation)} (permuted {_number(controls.permuted)}), {len(misses)} misses of "
        f"{len(drawn)} drawn, {len(wrong)} wrong signs, what was not verified at most "
        f"{_number(None if bound is None else bound / abs(gap))}; {RANDOMS} random directions at most "
        f"{controls.random_direction:+z.2f}, the drawn sites {_number(controls.random_sites)} on average: "
        f"{said(clear, len(own))}. {SHOWS[input.mode]}"
        + "".join(f" {warning}" for warning in warned if warning != ESTIMATES)
    )
    map = mapped(sites, values / gap, tokens)
    title = f"Attribution patching, {input.mode}, of {PLACES[kind].words}, {len(own)} pairs: {metric.words}"
    scale = SCALE[input.mode] if not undefined else "change of the metric"
    foot = (
        f"Controls{'' if undefined else ', of the gap'}: own values {controls.own_values:+z.2f}; {RANDOMS} random "
        f"directions, at most {controls.random_direction:+z.2f}. Rank correlation of estimates dealt to other sites: "
        f"{_number(controls.permuted)}."
    )
    return Output(
        metric=metric.words,
        mode=input.mode,
        what=PLACES[kind].words,
        pairs=len(own),
        sites=len(sites),
        clean=float(clean.mean()),
        corrupted=float(corrupted.mean()),
        top=tuple(rows),
        map=map,
        correlation=correlation,
        on_sample=rank_correlation(values[drawn], means[len(top) :]),
        size_correlations=tuple(rank_correlation(sizes[chosen], np.abs(means)) for sizes in rankings),
        misses=tuple(misses),
        wrong_signs=tuple(wrong),
        missed_at_most=bound,
        forward=found.forward,
        backward=found.backward,
        controls=controls,
        clear=clear,
        licence=LICENCE[input.mode],
        warnings=warned,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "attribution_patching",
            input,
            map=Picture(f"{title}; estimates", map, scale, foot) if map else None,
            verified=Picture(
                f"{title}; exact effects, and in grey their estimates; rank correlation {_number(correlation)}",
                Bars(_beside(rows, gap)),
                scale,
                foot,
            ),
        ),
        verdict=verdict,
    )


def _interleaved(rankings: Sequence[np.ndarray]) -> np.ndarray:
    """The sites, the first of each ranking in turn."""
    orders = [np.argsort(-sizes, kind="stable") for sizes in rankings]
    return np.array(list(dict.fromkeys(int(i) for turn in zip(*orders, strict=True) for i in turn)))


def _joined(parts: Sequence[Estimates]) -> Estimates:
    """The estimates on pairs of several lengths as one."""
    return Estimates(
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.sizes for part in parts], axis=1),
        parts[0].forward,
        parts[0].backward,
        tuple(note for part in parts for note in part.notes),
    )


def _halves(
    patchers: Sequence[Patcher],
    sites: Sequence[Site],
    rest: np.ndarray,
    verified: set[int],
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """bool[m, k] and float64[m]: random halves of the k sites not verified, and the mean change under each."""
    left = [int(i) for i in rest if i not in verified]
    inside = rng.permuted(np.arange(SUBSETS)[:, None] % 2 == np.zeros((1, len(left))), axis=0)
    if not left:
        return inside, np.zeros(SUBSETS)
    patches = [Patch(tuple(sites[i] for i, here in zip(left, row, strict=True) if here)) for row in inside]
    return inside, run_all(patchers, patches, progress).mean(1)


def _row(
    site: Site, estimate: float, change: np.ndarray, gap: np.ndarray, tokens: Sequence[str], drawn: bool
) -> Verified:
    return Verified(
        site=str(site),
        layer=site.layer,
        position=site.position,
        token=None if site.position is None else tokens[site.position],
        index=site.index,
        estimate=float(estimate),
        exact=float(change.mean()),
        **share(change, gap)._asdict(),
        drawn=drawn,
    )


def _beside(rows: Sequence[Verified], gap: float) -> tuple[Bar, ...]:
    """The strongest sites' exact effects, each above its estimate."""
    found: list[Bar] = []
    for row in rows[:DRAWN]:
        label = row.site if row.token is None else f"{row.site} ({row.token})"
        found.append(Bar(label, row.exact / gap, row.low, row.high))
        found.append(Bar("", row.estimate / gap, beside=True))
    return tuple(found)


def _exact(row: Verified) -> str:
    if row.effect is None:
        return f"{row.exact:+z.2f}"
    return told(row.effect, row.low, row.high)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
