"""Mirrors a direction's projection, so that each of two classes looks like the other along it alone."""

from typing import Literal

import numpy as np
from pydantic import Field

from tools.workbench.causal import CausalOutput, measured, said, told
from tools.workbench.context import Context
from tools.workbench.costs import causal
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.metrics import Metric, Texts, alike, encode
from tools.workbench.registry import ToolError, ToolInput, tool


class Input(ToolInput):
    """A direction, where to mirror it, and as many prompts of one class as of the other."""

    direction: str = Field(min_length=4, description="name of a saved direction")
    layers: tuple[int, ...] | None = Field(None, description="None: where the direction was found")
    positions: tuple[int, ...] | Literal["all"] = Field((-1,), description="tokens of each prompt, -1 its last")
    positive: Texts
    negative: Texts
    metric: Metric
    chat: bool = False


class Output(CausalOutput):
    """`effect` is of half the class gap: the metric counts with a minus on negative prompts. gap: mean metric of the
    positive prompts less that of the negative ones, without an edit, mirrored, and under the two controls."""

    centre: float = Field(description="projection halfway between the classes, which is mirrored about")
    gap: float
    gap_flipped: float
    gap_random: float = Field(description="under the random direction that changes it most")
    gap_active: float
    reversed: bool


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts of both classes are read under each condition."""
    return causal(context.subject, [*input.positive, *input.negative], input.chat, directions=True)


@tool(version=3, estimate=estimate)
def flip_projection(input: Input, context: Context) -> Output:
    """Mirrors the projection on a direction about its midpoint on prompts of two classes: does the class gap turn over?

    If the direction carries what tells the classes apart, it does, and random directions leave the gap as it is.
    Source: Tigges et al. 2310.15154; the illusion check is that of Makelov et al. 2311.17030.
    """
    n = len(input.positive)
    if n != len(input.negative):
        raise ToolError(f"There are {n} positive and {len(input.negative)} negative prompts: give as many of each.")
    prompts = encode(context.subject, [*input.positive, *input.negative], input.chat)
    edit = Edit(
        operation="scale",
        strength=-1,
        direction=input.direction,
        layers=input.layers,
        positions=input.positions,
    )
    centre = _midpoint(context, edit, prompts)
    partners = [*range(n, 2 * n), *range(n)]
    signs = np.repeat([1.0, -1.0], n)
    edit = edit.model_copy(update={"centre": centre})
    found = measured(context, [edit], prompts, input.metric, signs, partners)
    gap, flipped, random, active = (
        2 * value
        for value in (
            found.effect.value - found.effect.effect,
            found.effect.value,
            found.controls.random_direction.value,
            found.controls.random_active.value,
        )
    )
    e = found.effect
    change = told(2 * e.effect, None if e.low is None else 2 * e.low, None if e.high is None else 2 * e.high)
    turned = flipped * gap < 0
    verdict = (
        f"{'reverses' if turned else 'does not reverse'} the classes' gap in {found.metric}: {gap:+.3g} to "
        f"{flipped:+.3g} ({change}); random directions leave {random:+.3g}, {found.controls.other} {active:+.3g}: "
        f"{said(found.clear, 2 * n)}"
    )
    if found.illusion is not None and found.illusion.warning:
        verdict += f". {found.illusion.warning}"
    return Output(
        **{**dict(found), "verdict": verdict},
        centre=centre,
        gap=gap,
        gap_flipped=flipped,
        gap_random=random,
        gap_active=active,
        reversed=turned,
    )


def _midpoint(context: Context, edit: Edit, prompts: list[list[int]]) -> float:
    """The mean projection over prompts of both classes, at the first place and the positions that are edited."""
    change = prepare(context.subject, [edit], context.directions)[0]
    assert change.read is not None
    projections: list[float] = []
    for _, tokens in alike(prompts):
        s = tokens.shape[1]
        at = list(range(1, s)) if edit.positions == "all" else [int(p) % s for p in edit.positions]
        value = context.subject.value_at(change.hook, tokens)[:, at].float()
        projections += (value @ change.read).mean(-1).tolist()
    return float(np.mean(projections))
