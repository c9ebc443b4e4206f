"""Takes something out of the model and measures what is lost."""

from typing import Annotated

from pydantic import Field

from tools.workbench.causal import CausalOutput, measured
from tools.workbench.context import Context
from tools.workbench.costs import causal
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit, Target
from tools.workbench.metrics import Metric, Texts, encode
from tools.workbench.registry import ToolInput, tool
from tools.workbench.repair import SelfRepair, attached, of_edits, repair_said


class Input(ToolInput):
    """What to ablate, and the prompts and metric that tell what it was for."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=64)]
    prompts: Texts
    metric: Metric = Metric()
    chat: bool = Field(False, description="each prompt is a user's message, and the next token the model's reply")


class Output(CausalOutput):
    """See `CausalOutput`; self_repair: what of the effect is direct and what later parts make of it, or why
    that is not told."""

    self_repair: SelfRepair | str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are read under each condition."""
    directions = any(target.kind == "direction" for target in input.targets)
    everywhere = any(target.layers == "all" for target in input.targets)
    repaired = "difference" in input.metric.kind
    return causal(context.subject, input.prompts, input.chat, directions, everywhere, repaired)


@tool(version=4, estimate=estimate)
def ablate(input: Input, context: Context) -> Output:
    """Removes latents, directions, neurons or heads while the model reads prompts, and measures what changes.

    A latent's activation and a neuron's or head's output become 0 (an SAE's error stays), a direction is projected out
    of the residual stream (layers "all": everywhere, as in Arditi et al. 2406.11717). If the metric does not move more
    than under the controls, the prompts do not need what was removed, or later parts made it good: of a logit
    difference self_repair says which (Rushing & Nanda 2402.15390).
    """
    edits = [Edit.of(target, "ablate") for target in input.targets]
    prompts = encode(context.subject, input.prompts, input.chat)
    found = measured(context, edits, prompts, input.metric)
    changes = prepare(context.subject, edits, context.directions)
    repair = attached(lambda: of_edits(context, changes, prompts, input.metric))
    return Output(
        **{**dict(found), "verdict": f"{found.verdict.rstrip('.')}. {repair_said(repair)}"}, self_repair=repair
    )
