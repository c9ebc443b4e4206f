"""How true is a label of a planted latent? What it predicts on held-out texts is compared with the planted rule."""

import asyncio

from pydantic import Field

from prompts.providers import Role
from tools.organisms.planted.held_out import held_out
from tools.organisms.planted.latents import planted
from tools.organisms.planted.noun import Kind
from tools.organisms.planted.subject import PlantedSubject
from tools.workbench.context import Context
from tools.workbench.judging import MIN_NEGATIVES, MIN_POSITIVES, JudgeInput, JudgeOutput, calls, how_many, judged
from tools.workbench.registry import ToolError, tool
from tools.workbench.stats import balanced_accuracy


class Input(JudgeInput):
    """A label of a planted latent; `floor_text` is another latent's. The held-out texts are in no document."""

    method: str = Field("", description="who wrote the label")


class Output(JudgeOutput):
    """AUROC of the judge's margins, and the balanced accuracy of its verdicts (margin above 0) with its 95 % interval.

    `name` and `kind` tell what was planted. `mix` counts the items: texts (or words, of a latent that writes) of either
    side, "near" being near misses.
    """

    name: str
    kind: Kind
    meaning: str
    balanced: float
    balanced_low: float
    balanced_high: float
    passed: bool = Field(description="the AUROC's interval lies above both chance and floor")


@tool(version=2, asks=(Role.JUDGE,), calls=calls)
async def grade_planted(input: Input, context: Context) -> Output:
    """Grades a label of a latent whose meaning was planted: a judge who reads only the label predicts which texts fire.

    Only for subjects with planted latents (--dictionary planted); for benchmarks, never for whoever writes the labels.
    """
    subject = context.subject
    if not isinstance(subject, PlantedSubject):
        raise ToolError("This subject has no planted latents: name --dictionary planted.")
    latent = subject.latent(input.latent)
    positives, negatives = how_many(context, input)
    items = await asyncio.to_thread(
        held_out, subject, input.latent, positives, negatives, context.rng("held out", input.latent)
    )
    n_positive = sum(item.positive for item in items)
    if n_positive < MIN_POSITIVES or len(items) - n_positive < MIN_NEGATIVES:
        raise ToolError(f"Latent {input.latent} has too few held-out texts in this model's tokens to be graded.")
    found = await judged(context, input, "judge_detection", items, str(latent))
    sides = [[i.margin for i in found.items if i.positive is side and i.margin is not None] for side in (True, False)]
    balanced = balanced_accuracy(*sides)
    truth = planted()[input.latent]
    return Output(
        **dict(found),
        name=truth.name,
        kind=truth.kind,
        meaning=truth.meaning,
        balanced=balanced.value,
        balanced_low=balanced.low,
        balanced_high=balanced.high,
        passed=found.low > max(found.chance, found.floor if found.floor is not None else found.chance),
    )
