"""How an effect grows with the strength of steering, at strengths that cost the model equally much."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tools.workbench.causal import Effect, along_random, effect_of, peer, said, stands_clear, still, told
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.doses import cross_entropy, doses, fit
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit, Target
from tools.workbench.metrics import Metric, Texts, encode, observe
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
    """A strength, the increase of cross-entropy it causes (nats a token), and what it does to the metric."""

    strength: float
    cost: float
    effect: Effect


class Controls(ToolOutput):
    """The same strengths along a random direction and another active unit, and a change of length zero."""

    no_edit: Effect
    random_direction: tuple[DoseEffect, ...]
    random_active: tuple[DoseEffect, ...]
    other: str


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
    """The metric at each dose, its controls and the curve. unreached: costs that no strength allowed reaches."""

    metric: str
    doses: tuple[DoseEffect, ...]
    unreached: tuple[float, ...]
    curve: Fitted
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the search for strengths, then three conditions at each."""
    now = pace(context.subject)
    n = len(input.costs)
    return now.plain * (6 + 6 * n) + (3 * n + 3) * now.reading(context.subject, input.prompts, input.chat)


@tool(version=1, estimate=estimate)
def dose_response(input: Input, context: Context) -> Output:
    """Adds a latent, direction or neuron at increasing strength and follows a metric: the dose-response curve.

    Strengths are those that raise the loss on plain text by given amounts, so curves compare across latents and layers.
    A real cause has a slope that its controls, as strong, do not have.
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
    (random,) = along_random(context, [change], rng)
    (other,), name = peer(context, edit, [change], prompts, rng)
    before = observe(context, prompts, input.metric)
    plain = cross_entropy(subject)

    def followed(unit: Change, own: bool) -> tuple[list[DoseEffect], np.ndarray]:
        """The unit at each dose, and the change of the metric [doses, prompts]."""
        effects, changes = [], []
        for dose in found:
            made = [replace(unit, strength=dose.strength)]
            after = observe(context, prompts, input.metric, made)
            cost = dose.increase if own else cross_entropy(subject, made) - plain
            effects.append(DoseEffect(strength=dose.strength, cost=cost, effect=effect_of(before, after)))
            changes.append(after.values - before.values)
        return effects, np.stack(changes)

    effects, changes = followed(change, own=True)
    at_random, random_changes = followed(random, own=False)
    beside, other_changes = followed(other, own=False)
    curve = _curve(np.array([abs(dose.strength) for dose in found]), changes, rng)
    clear = stands_clear(changes.mean(0), [random_changes.mean(0), other_changes.mean(0)])
    most = effects[-1]
    verdict = (
        f"{input.metric.words} moves by {told(most.effect.effect, most.effect.low, most.effect.high)} at strength "
        f"{most.strength:.3g}, which costs {most.cost:.2g} nats; a random direction as strong by "
        f"{at_random[-1].effect.effect:+.3g}, {name} by {beside[-1].effect.effect:+.3g}. Slope "
        f"{told(curve.slope, curve.low, curve.high)} a unit of strength: {said(clear, len(prompts))}"
    )
    nothing = observe(context, prompts, input.metric, still([replace(change, strength=found[-1].strength)]))
    return Output(
        metric=input.metric.words,
        doses=tuple(effects),
        unreached=tuple(costs[len(found) :]),
        curve=curve,
        controls=Controls(
            no_edit=effect_of(before, nothing),
            random_direction=tuple(at_random),
            random_active=tuple(beside),
            other=name,
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
