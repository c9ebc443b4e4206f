"""Does patching a direction do what the direction does, or does it open a path that the model never uses?"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.illusion import Illusion, exchanged
from tools.workbench.metrics import Metric
from tools.workbench.pairs import Contrast, Dropped, aligned, measure
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.sweeps import counted, seconds
from tools.workbench.unembed import random_direction

LICENCE = (
    "A direction whose patch does no more than the whole activation's, and keeps its effect in the part that is read, "
    "passes this check; it is not thereby the only direction that would."
)


class Input(Contrast):
    """The pairs, whose activations are exchanged along a saved direction. layer: None is where it was found."""

    direction: str = Field(min_length=4, description="name of a saved direction")
    layer: Annotated[int, Field(ge=0)] | None = None
    positions: Annotated[tuple[int, ...], Field(min_length=1, max_length=64)] = (-1,)
    metric: Literal["logit_difference", "log_probability"] = "logit_difference"


class Controls(ToolOutput):
    """Mean size of the metric's change when activations are exchanged along a random direction."""

    random_direction: float


class Output(ToolOutput):
    """What the exchange does along the direction, along the part of it that anything downstream reads, and as a whole
    (mean sizes of the metric's change over both prompts of each pair). suspect: whether it looks like an illusion."""

    metric: str
    pairs: int
    layer: int
    check: Illusion
    suspect: bool
    controls: Controls
    licence: str
    dropped: tuple[Dropped, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: five passes over both prompts of each pair, for the direction and for the random one."""
    whole, _ = counted(context, input)
    return seconds(context.subject, 20 * whole)


@tool(version=1, estimate=estimate)
def subspace_check(input: Input, context: Context) -> Output:
    """Checks a direction for the subspace illusion before anything is claimed of it.

    Clean and corrupted prompts exchange their activations along the direction, along its part in the row space of what
    reads it, and as a whole. A direction that does more than the whole, or mostly by a part that nothing reads, works
    through a dormant path. Source: Makelov et al. 2311.17030.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    saved = context.directions.of_stream(input.direction, subject.name)
    layer = subject.layer_of(saved.hook) if input.layer is None else input.layer
    if layer >= subject.n_layers:
        raise ToolError(f"Layer {layer} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    shortest = min(len(pair.clean) for pair in pairs.kept)
    far = [position for position in input.positions if not -shortest <= position < shortest]
    if far:
        raise ToolError(f"Position {far[0]} does not exist: the shortest prompt has {shortest} tokens, BOS being 0.")
    n = len(pairs.kept)
    one = measure(subject, pairs.kept, input.metric)
    metric = Metric(kind=one.kind, answers=one.answers * 2, down=one.down * 2)
    prompts = [*(pair.clean for pair in pairs.kept), *(pair.corrupted for pair in pairs.kept)]
    partners = [*range(n, 2 * n), *range(n)]

    def exchange(direction: torch.Tensor) -> Illusion:
        hook = subject.residual_points[layer]
        return exchanged(context, hook, direction, prompts, metric, input.positions, partners)

    check = exchange(saved.vector)
    seed = int(context.rng("subspace_check", input.model_dump_json()).integers(2**31))
    controls = Controls(random_direction=exchange(random_direction(subject, seed)).direction)
    verdict = (
        f"exchanged between clean and corrupted prompts of {n} pairs entering layer {layer}, {input.direction} changes "
        f"{one.words} by {check.direction:.3g}, its part that is read ({check.read:.0%}) by {check.rowspace_only:.3g}, "
        f"the whole activation by {check.full:.3g}, a random direction by {controls.random_direction:.3g}: "
        + (check.warning or "no sign of an illusion")
        + f". {LICENCE}"
        + "".join(f" {note}" for note in pairs.notes)
    )
    return Output(
        metric=one.words,
        pairs=n,
        layer=layer,
        check=check,
        suspect=check.warning is not None,
        controls=controls,
        licence=LICENCE,
        dropped=pairs.dropped,
        verdict=verdict,
    )
