"""Which latents a behaviour goes through: integrated gradients, complete by construction, beside the plain gradient."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import RANDOMS, said, stands_clear
from tools.workbench.context import Context
from tools.workbench.gradients import Graph, together
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.patching import PROBABILITY, Patch, Patcher, Progress
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.shares import EQUAL
from tools.workbench.sites import Site
from tools.workbench.sweeps import beside, counted, run_all, seconds, typical
from tools.workbench.verifying import by_chance

COMPLETE = 0.15  # of the whole change: what the attributions may leave out or add
FIRST = 10  # steps that are tried first, then twice as many
LICENCE = (
    "An exact change says what the metric loses when one latent alone is set to its baseline on the clean prompts; "
    "the integrated gradient is its part of what all latents do together, where the dictionary's error stays as it is."
)


class Input(Contrast):
    """The pairs, of which the clean prompts are read. baseline: where each latent goes, to what it is on the corrupted
    prompt or to 0, where the model never is (many steps are needed there)."""

    baseline: Literal["other", "zero"] = "other"
    metric: Literal["logit_difference", "log_probability", "probability"] = "logit_difference"
    steps: int = Field(80, ge=1, le=1000, description="of the integral, at most; fewer where they suffice")
    top: int = Field(16, ge=3, le=200, description="strongest by plain gradient, verified by exact patching")
    sample: int = Field(16, ge=3, le=500, description="others, drawn at random, verified too")


class LatentAttribution(ToolOutput):
    """Mean change of the metric when the latent goes to its baseline: its part of what all do together (integrated),
    its estimate alone (gradient), and as measured alone (exact)."""

    latent: int
    integrated: float
    gradient: float
    exact: float
    drawn: bool = Field(description="of the random sample")


class Controls(ToolOutput):
    """own_values: exact change when the strongest latent is set to what it is (0); randoms: when the residual stream
    changes as much in random directions; random_direction: the one that does most; random_latents: mean size over the
    random sample. sign_flipped: Pearson of exact changes and gradients with the activations'
    signs turned; permuted: mean size of the rank correlation when gradients are dealt out to other latents."""

    own_values: float
    random_direction: float
    randoms: tuple[float, ...]
    random_latents: float | None
    sign_flipped: float | None
    permuted: float | None


class Output(ToolOutput):
    """The verified latents, strongest first. whole: measured change of the metric when all latents go to the baseline;
    integrated, gradient: the sums of the attributions; completeness: integrated over whole (None where nothing
    changes). incomplete: mean size over prompts of what the attributions leave out or add, over that of the change;
    complete: it is at most 15 %. clear: whether the strongest does more, by more than chance, than each random
    direction and than the sample on average. steps: of the integral, at the middle of equal parts of the way.
    pearson_gradient, pearson_integrated: with exact changes, over the verified."""

    metric: str
    pairs: int
    latents: int
    clean: float
    whole: float
    integrated: float
    gradient: float
    completeness: float | None
    incomplete: float | None
    complete: bool
    steps: int
    pearson_gradient: float | None
    pearson_integrated: float | None
    top: tuple[LatentAttribution, ...]
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: two passes a step, and the exact patches."""
    tokens, _ = counted(context, input)
    passes = 4 * input.steps if input.baseline == "zero" else 2 * FIRST
    return seconds(context.subject, tokens * (4 + passes + (input.top + input.sample) / 2), passes)


@tool(version=2, estimate=estimate)
def integrated_latent_attribution(input: Input, context: Context) -> Output:
    """Attributes a behaviour to the dictionary's latents, and verifies the strongest exactly.

    Integrated gradients (Sundararajan et al. 1703.01365; Marks et al. 2403.19647) share out what all latents do
    together; gradient times change estimates each alone. The dictionary's error term is kept. Completeness is measured.
    """
    subject = context.subject
    layer = subject.layer_of(subject.hook)
    pairs = aligned(subject, input, context.seed)
    replacement: Literal["zero", "tokens"] = "zero" if input.baseline == "zero" else "tokens"
    patchers = [
        Patcher(context, batch(g), measure(subject, g, input.metric), "noising", replacement) for g in pairs.groups()
    ]
    every = Patch((Site("latent", layer),))
    (whole,) = run_all(patchers, [every])
    plain = np.concatenate([_attributed(patcher, [0.0]) for patcher in patchers])  # [n, latents]
    steps, integrated, incomplete = _integrated(patchers, whole, input.steps, context.stage("integrating gradients"))
    moving = np.flatnonzero(
        np.concatenate([(_change(patcher) != 0).any(1).cpu().numpy() for patcher in patchers]).any(0)
    )
    if len(moving) < 3:
        raise ToolError("Fewer than three latents move on these prompts: nothing can be shared out among them.")
    rng = context.rng("integrated_latent_attribution", input.model_dump_json())
    means = plain.mean(0)
    order = moving[np.argsort(-np.abs(means[moving]), kind="stable")]
    drawn = rng.permutation(order[input.top :])[: input.sample]
    chosen = [int(i) for i in (*order[: input.top], *drawn)]
    patches = [Patch((Site("latent", layer, None, i),)) for i in chosen]
    exact = run_all(patchers, patches, context.stage("verifying latents"))
    single = np.array([change.mean() for change in exact])
    best = int(np.abs(single).argmax())
    checks = beside(patchers, (Site("latent", layer, None, chosen[best]),))
    others = np.array([at for at in range(min(input.top, len(order)), len(chosen)) if at != best], int)
    gradient_of, integrated_of = means[chosen], integrated.mean(0)[chosen]
    pearson = _pearson(gradient_of, single)
    total, summed = float(whole.mean()), float(integrated.sum(1).mean())
    completeness = None if abs(total) < EQUAL else summed / total
    complete = incomplete is not None and incomplete <= COMPLETE
    controls = Controls(
        own_values=float(checks.still.mean()),
        random_direction=float(checks.random.mean()),
        randoms=tuple(checks.randoms.mean(1).tolist()),
        random_latents=float(np.abs(single[others]).mean()) if len(others) else None,
        sign_flipped=_pearson(-gradient_of, single),
        permuted=by_chance(gradient_of, single, rng),
    )
    clear = stands_clear(exact[best], [*checks.randoms, *typical(exact[others])])
    warnings = [PROBABILITY if input.metric == "probability" else "", *pairs.notes]
    warnings += [note for patcher in patchers for note in patcher.notes]
    if completeness is None:
        warnings.append("All latents together change nothing: there is nothing to share out and no completeness.")
    elif not complete:
        warnings.append("The attributions do not add up to the whole change: take more steps.")
    warned = tuple(dict.fromkeys(filter(None, warnings)))
    rows = [
        LatentAttribution(
            latent=chosen[at],
            integrated=float(integrated_of[at]),
            gradient=float(gradient_of[at]),
            exact=float(single[at]),
            drawn=at >= min(input.top, len(order)),
        )
        for at in np.argsort(-np.abs(single), kind="stable")
    ]
    metric = measure(subject, pairs.kept, input.metric)
    own = np.concatenate([patcher.own for patcher in patchers])
    verdict = (
        f"{len(moving)} latents on {len(own)} prompts, {metric.words} {own.mean():.3g}: all of them at their baseline "
        f"change it by {total:+z.3g}, integrated gradients add up to {summed:+z.3g}"
        + ("" if completeness is None else f" ({completeness:.2f} of it)")
        + f", plain gradients to {plain.sum(1).mean():+z.3g}; strongest alone "
        + ", ".join(f"{row.latent} {row.exact:+z.3g} (gradient {row.gradient:+z.3g})" for row in rows[:3])
        + (f"; Pearson of gradient and exact {pearson:.2f}" if pearson is not None else "")
        + f"; {RANDOMS} random directions at most {controls.random_direction:+z.3g}"
        + ("" if not len(others) else f", the drawn latents {controls.random_latents:.2g} on average")
        + f": {said(clear, len(own))}. {LICENCE}"
        + "".join(f" {warning}" for warning in warned)
    )
    return Output(
        metric=metric.words,
        pairs=len(own),
        latents=len(moving),
        clean=float(own.mean()),
        whole=total,
        integrated=summed,
        gradient=float(plain.sum(1).mean()),
        completeness=completeness,
        incomplete=incomplete,
        complete=complete,
        steps=steps,
        pearson_gradient=pearson,
        pearson_integrated=_pearson(integrated_of, single),
        top=tuple(rows),
        controls=controls,
        clear=clear,
        licence=LICENCE,
        warnings=warned,
        dropped=pairs.dropped,
        verdict=verdict,
    )


def _integrated(
    patchers: Sequence[Patcher], whole: np.ndarray, most: int, progress: Progress
) -> tuple[int, np.ndarray, float | None]:
    """Steps taken, float64[n, latents], and the mean size of what is left out over that of the whole change [n]; more
    steps are taken until that is little."""
    scale = float(np.abs(whole).mean())
    steps = min(FIRST, most)
    while True:
        ways = [(step + 0.5) / steps for step in range(steps)]
        found = np.concatenate([_attributed(patcher, ways, progress) for patcher in patchers])
        incomplete = None if scale < EQUAL else float(np.abs(found.sum(1) - whole).mean()) / scale
        if incomplete is None or incomplete <= COMPLETE or 2 * steps > most:
            return steps, found, incomplete
        steps *= 2


def _change(patcher: Patcher) -> Tensor:
    """[n, s, latents]: by how much each latent is further at its baseline."""
    layer = patcher.subject.layer_of(patcher.subject.hook)
    change = patcher.values("latent", layer) - patcher.values("latent", layer, "own")
    change[:, : patcher.first] = 0
    return change


def _attributed(patcher: Patcher, ways: Sequence[float], progress: Progress = lambda done, total: None) -> np.ndarray:
    """float64[n, latents]: change times the mean gradient at these parts of the way to the baseline."""
    change = _change(patcher)
    decoder = patcher.subject.dictionary.decoder.to(change)
    found: list[Tensor] = []
    size = together(patcher.subject, patcher.length)
    for begin in range(0, patcher.n, size):
        rows = list(range(begin, min(begin + size, patcher.n)))
        moved = change[rows] @ decoder
        gradient = torch.zeros_like(moved)
        for step, way in enumerate(ways, 1):
            gradient += _gradient(patcher, rows, way * moved)
            progress(begin * len(ways) + step * len(rows), patcher.n * len(ways))
        found.append((change[rows] * (gradient @ decoder.T / len(ways))).sum(1))
    attributed: np.ndarray = torch.cat(found).double().cpu().numpy()
    return attributed


def _gradient(patcher: Patcher, rows: Sequence[int], moved: Tensor) -> Tensor:
    """[b, s, d_model]: the metric's gradient at the dictionary's hook point, its value moved by `moved`."""
    hook = patcher.subject.hook
    splice = (hook, lambda value: value + moved.to(value))
    graph = Graph(patcher.subject, patcher.into.tokens[list(rows)], patcher.reader, rows, [hook], [splice])
    return graph.gradients()[hook]


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(np.corrcoef(a, b)[0, 1])
