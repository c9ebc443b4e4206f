"""How an effect grows with the strength of steering, at strengths that cost the model equally much."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tools.workbench.causal import RANDOMS, Effect, along_random, effect_of, peer, said, stands_clear, still, told
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.doses import cross_entropy, doses, fit, misses
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit, Target
from tools.workbench.metrics import Metric, Observed, Texts, encode, observe, observe_each
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.stats import CONFIDENCE

RESAMPLES = 200


class Input(ToolInput):
    """What to add, the costs at which to measure, and the metric."""

    target: Target = Field(description="a latent, direction or neuron")
    sign: Literal[1, -1] = 1
    costs: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(min_length=2, max_length=12)] = Field(
        (0.05, 0.1, 0.2, 0.5, 1.0, 2.0), description="increases of cross-entropy on plain text, nats a token"
    )
    prompts: Texts
    metric: Metric
    chat: bool = False


class DoseEffect(ToolOutput):
    """A strength, the increase of cross-entropy it causes (nats a token), and what it does to the metric. target: the
    increase that was asked for, which the search can miss; None for controls, which take the strength as it is."""

    strength: float
    cost: float
    target: float | None
    effect: Effect


class Controls(ToolOutput):
    """The same strengths along random directions and another active unit, and a change of length zero.
    random_direction: the one with the largest mean effect over doses; randoms: that of each. slopes: of the curves
    fitted to each random direction and, last, to the other unit."""

    no_edit: Effect
    random_direction: tuple[DoseEffect, ...]
    randoms: tuple[float, ...]
    random_active: tuple[DoseEffect, ...]
    other: str
    slopes: tuple[float, ...]


class Fitted(ToolOutput):
    """effect = maximum * x / (x + half), x the strength's size. slope: at the start, with a 95 % bootstrap interval
    over prompts (None for one prompt); r2: share of the variance over doses that the curve explains."""

    maximum: float
    half: float
    slope: float
    low: float | None
    high: float | None
    r2: float


class Output(ToolOutput):
    """The metric at each dose, its controls and the curve. unreached: costs that no strength allowed reaches. mean: the
    effect averaged over doses. clear: that mean is larger than each control's, by more than chance over prompts."""

    metric: str
    doses: tuple[DoseEffect, ...]
    unreached: tuple[float, ...]
    mean: float
    curve: Fitted
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the search for strengths, then every condition at each."""
    now = pace(context.subject)
    n = len(input.costs)
    return now.plain * (6 + 6 * n) + ((2 + RANDOMS) * n + 3) * now.reading(context.subject, input.prompts, input.chat)


@tool(version=3, estimate=estimate)
def dose_response(input: Input, context: Context) -> Output:
    """Adds a latent, direction or neuron at increasing strength and follows a metric: the dose-response curve.

    Strengths are those that raise the loss on plain text by given amounts, so curves compare across latents and layers.
    Judge by the mean effect over the doses, which the verdict holds against nine random directions and another unit,
    as strong; their slopes stand beside its own.
    """
    subject = context.subject
    if input.target.kind == "head":
        raise ToolError("A head has no direction to add: give a latent, a direction or a neuron.")
    edit = Edit.of(input.target, "add", 0.0)
    (change, *more) = prepare(subject, [edit], context.directions)
    if more:
        raise ToolError("A dose is for one layer: name one, or leave layers out.")
    prompts = encode(subject, input.prompts, input.chat)
    rng = context.rng("dose_response", input.model_dump_json())
    costs = sorted(input.costs)
    found = doses(subject, change, costs, input.sign)
    if len(found) < 2:
        raise ToolError(f"No strength allowed raises the loss by {costs[min(1, len(costs) - 1)]} nats: ask for less.")
    (random,) = along_random(context, [change], rng)  # all of them
    (other,), name = peer(context, edit, [change], prompts, rng)
    before = observe(context, prompts, input.metric)
    plain = cross_entropy(subject)

    def followed(unit: Change) -> tuple[list[list[Observed]], np.ndarray]:
        """What is seen at each dose of each direction, and the change of the metric [directions, doses, prompts]."""
        strong = [replace(unit, strength=dose.strength) for dose in found]
        seen = [observe_each(context, prompts, input.metric, [made]) for made in strong]
        changes = np.array([[one.values - before.values for one in each] for each in seen])
        return [list(each) for each in zip(*seen, strict=True)], changes.swapaxes(0, 1)

    def told_of(unit: Change, seen: list[Observed], own: bool) -> list[DoseEffect]:
        effects = []
        for dose, after in zip(found, seen, strict=True):
            cost = dose.increase
            if not own:
                cost = cross_entropy(subject, [replace(unit, strength=dose.strength)]) - plain
            target = dose.target if own else None
            effect = effect_of(before, after)
            effects.append(DoseEffect(strength=dose.strength, cost=cost, target=target, effect=effect))
        return effects

    (seen,), (changes,) = followed(change)
    random_seen, random_changes = followed(random)
    (other_seen,), other_changes = followed(other)
    sizes = np.array([abs(dose.strength) for dose in found])
    curve = _curve(sizes, changes, rng)
    slopes = [fit(sizes, each.mean(1)).slope for each in (*random_changes, *other_changes)]
    means = [each.mean(0) for each in (*random_changes, *other_changes)]  # [prompts] each
    clear = stands_clear(changes.mean(0), means)
    strongest = int(np.abs(random_changes.mean((1, 2))).argmax())
    effects = told_of(change, seen, own=True)
    at_random = told_of(random.only(slice(strongest, strongest + 1)), random_seen[strongest], own=False)
    beside = told_of(other, other_seen, own=False)
    most = effects[-1]
    mean = float(changes.mean())
    verdict = (
        f"{input.metric.words} moves by {told(most.effect.effect, most.effect.low, most.effect.high)} at strength "
        f"{most.strength:.3g}, which costs {most.cost:.2g} nats. Slope {told(curve.slope, curve.low, curve.high)} a "
        f"unit of strength, controls at most {max(slopes, key=abs):+.3g}. Mean over doses {mean:+.3g}, {RANDOMS} "
        f"random directions as strong at most {random_changes[strongest].mean():+.3g}, {name} "
        f"{other_changes.mean():+.3g}: {said(clear, len(prompts))}, by the mean{misses(found)}"
    )
    nothing = observe(context, prompts, input.metric, still([replace(change, strength=found[-1].strength)]))
    return Output(
        metric=input.metric.words,
        doses=tuple(effects),
        unreached=tuple(costs[len(found) :]),
        mean=mean,
        curve=curve,
        controls=Controls(
            no_edit=effect_of(before, nothing),
            random_direction=tuple(at_random),
            randoms=tuple(float(each.mean()) for each in random_changes),
            random_active=tuple(beside),
            other=name,
            slopes=tuple(slopes),
        ),
        clear=clear,
        verdict=verdict,
    )


def _curve(x: np.ndarray, changes: np.ndarray, rng: np.random.Generator) -> Fitted:
    """x: [doses] sizes. changes: [doses, prompts]."""
    means = changes.mean(1)
    curve = fit(x, means)
    n = changes.shape[1]
    low = high = None
    if n > 1:
        slopes = [fit(x, changes[:, rng.integers(n, size=n)].mean(1)).slope for _ in range(RESAMPLES)]
        low, high = map(float, np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    residual = float(np.square(curve.at(x) - means).sum())
    spread = float(np.square(means - means.mean()).sum())
    return Fitted(
        maximum=curve.maximum,
        half=curve.half,
        slope=curve.slope,
        low=low,
        high=high,
        r2=1 - residual / spread if spread else 0.0,
    )
