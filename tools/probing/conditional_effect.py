"""Is something needed in one context and not in another? A gate: what ablating a unit does inside and outside."""

import numpy as np
from pydantic import FiniteFloat
from scipy.stats import t as student

from tools.workbench.causal import along_random, peer, said, still
from tools.workbench.context import Context
from tools.workbench.costs import causal
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit, Target
from tools.workbench.metrics import Metric, Texts, encode, observe_each
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.repair import SelfRepair, of_edits, repair_said, summed
from tools.workbench.stats import CONFIDENCE

LEAST = 2  # prompts on either side


class Input(ToolInput):
    """The gate (latent, direction, neuron or head), prompts inside and outside its context, and what is measured: for
    another unit that it may gate, the metric "latent"; a metric with answers takes those of inside, then of outside.

    centre: the activation that the gate is set to, its mean for a mean ablation.
    """

    gate: Target
    inside: Texts
    outside: Texts
    metric: Metric = Metric()
    centre: FiniteFloat = 0.0
    chat: bool = False


class Cell(ToolOutput):
    """The metric on one kind of prompt: with the gate intact and ablated, and the mean change."""

    intact: float
    ablated: float
    effect: float
    low: float
    high: float


class Controls(ToolOutput):
    """The same interaction with a change of length zero; with nine random directions of equal norm, the strongest; and
    with another active unit, named in `other`."""

    no_edit: float
    random_direction: float
    random_active: float
    other: str


class Output(ToolOutput):
    """The two by two table. interaction: the effect inside minus that outside, with its 95 % interval (Welch). paths:
    of a logit difference, what of the effect goes from the gate to the logits directly and what through later parts, or
    why it is not told."""

    metric: str
    inside: Cell
    outside: Cell
    interaction: float
    low: float
    high: float
    paths_inside: SelfRepair | str
    paths_outside: SelfRepair | str
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are read under each condition."""
    prompts = [*input.inside, *input.outside]
    everywhere, repaired = input.gate.layers == "all", "difference" in input.metric.kind
    return causal(context.subject, prompts, input.chat, everywhere=everywhere, repaired=repaired)


@tool(version=2, estimate=estimate)
def conditional_effect(input: Input, context: Context) -> Output:
    """Does a unit matter in one context only? Ablates it on prompts inside and outside of the context and compares.

    A unit that is needed everywhere has effects and no interaction. With a logit difference it also says by which
    paths: from the gate to the logits, or through later parts. Source: Quirke et al. 2311.00863, sections 3 and 4 (a
    neuron for German, whose ablation raises the loss on German alone).
    """
    subject = context.subject
    n = len(input.inside)
    if min(n, len(input.outside)) < LEAST:
        raise ToolError(
            f"There are {n} prompts inside and {len(input.outside)} outside: give at least {LEAST} of each."
        )
    prompts = encode(subject, [*input.inside, *input.outside], input.chat)
    edit = Edit.of(input.gate, "ablate", centre=input.centre)
    group = prepare(subject, [edit], context.directions)
    rng = context.rng("conditional_effect", input.model_dump_json())
    other, name = peer(context, edit, group, prompts, rng)

    def seen(changes: list[Change]) -> list[np.ndarray]:
        return [each.values for each in observe_each(context, prompts, input.metric, changes)]

    (before,) = seen([])
    (after,) = seen(group)
    (nothing,) = seen(still(group))
    (peers,) = seen(other)
    randoms = seen(along_random(context, group, rng))
    value, low, high = _interaction(after - before, n)
    controls = Controls(
        no_edit=_interaction(nothing - before, n)[0],
        random_direction=max((_interaction(each - before, n)[0] for each in randoms), key=abs),
        random_active=_interaction(peers - before, n)[0],
        other=name,
    )
    least = max(low, -high)  # of its size, either way
    clear = least > max(abs(controls.random_direction), abs(controls.random_active), 0.0)
    inside, outside = _cell(before[:n], after[:n]), _cell(before[n:], after[n:])
    verdict = (
        f"ablating {input.gate.kind} {getattr(input.gate, input.gate.kind)} changes {input.metric.words} by "
        f"{inside.effect:+.3g} inside and {outside.effect:+.3g} outside, which differ by {value:+.3g} [{low:+.3g}, "
        f"{high:+.3g}]; random directions by at most {controls.random_direction:+.3g}, {name} by "
        f"{controls.random_active:+.3g}: {said(clear, len(prompts))}"
    )
    paths_inside, paths_outside = _paths(context, group, prompts, input.metric, n)
    if isinstance(paths_inside, SelfRepair):
        verdict += f". Inside: {repair_said(paths_inside, 'the change')}"
    bars = Bars(
        (
            Bar("inside", inside.effect, inside.low, inside.high),
            Bar("outside", outside.effect, outside.low, outside.high),
            Bar("interaction", value, low, high),
            Bar("interaction, random direction", controls.random_direction, beside=True),
            Bar(f"interaction, {name}", controls.random_active, beside=True),
        )
    )
    return Output(
        metric=input.metric.words,
        inside=inside,
        outside=outside,
        interaction=value,
        low=low,
        high=high,
        paths_inside=paths_inside,
        paths_outside=paths_outside,
        controls=controls,
        clear=clear,
        verdict=verdict,
        pictures=draw(
            context,
            "conditional_effect",
            input,
            effects=Picture("What the gate does by context", bars, f"change of {input.metric.words}", verdict),
        ),
    )


def _paths(
    context: Context, group: list[Change], prompts: list[list[int]], metric: Metric, n: int
) -> tuple[SelfRepair | str, SelfRepair | str]:
    """Of the first n prompts, and of the others."""
    try:
        found = of_edits(context, group, prompts, metric)
    except ToolError as reason:
        return str(reason), str(reason)
    return summed(found.of(slice(n))), summed(found.of(slice(n, None)))


def _interaction(change: np.ndarray, n: int) -> tuple[float, float, float]:
    """Mean of the first n less that of the others, with its 95 % interval (Welch 1947)."""
    sides = change[:n], change[n:]
    parts = [float(side.var(ddof=1)) / len(side) for side in sides]
    value = float(sides[0].mean() - sides[1].mean())
    error = sum(parts)
    if error == 0:
        return value, value, value
    freedom = error**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error**0.5
    return value, value - half, value + half


def _cell(before: np.ndarray, after: np.ndarray) -> Cell:
    change = after - before
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(change) - 1) * change.std(ddof=1) / len(change) ** 0.5)
    mean = float(change.mean())
    return Cell(
        intact=float(before.mean()), ablated=float(after.mean()), effect=mean, low=mean - half, high=mean + half
    )
