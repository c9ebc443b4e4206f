"""Holds something in the model at a value and measures what follows."""

from typing import Annotated

from pydantic import Field, FiniteFloat

from tools.workbench.causal import CausalOutput, measured
from tools.workbench.context import Context
from tools.workbench.costs import causal
from tools.workbench.edits import Edit, Target
from tools.workbench.metrics import Metric, Texts, encode
from tools.workbench.registry import ToolInput, tool


class Input(ToolInput):
    """What to hold at which value, and the prompts and metric that tell what follows."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=64)]
    value: FiniteFloat = Field(description="activation of a latent or neuron, or projection on a direction")
    when_active: bool = Field(False, description="latents: only on tokens where they fire")
    prompts: Texts
    metric: Metric = Metric()
    chat: bool = Field(False, description="each prompt is a user's message, and the next token the model's reply")


class Output(CausalOutput):
    """See `CausalOutput`."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are read under each condition."""
    directions = any(target.kind == "direction" for target in input.targets)
    everywhere = any(target.layers == "all" for target in input.targets)
    return causal(context.subject, input.prompts, input.chat, directions, everywhere)


@tool(version=3, estimate=estimate)
def clamp(input: Input, context: Context) -> Output:
    """Sets latents, neurons or projections to a value while the model reads prompts, and measures what changes.

    A negative value with when_active makes a latent push against what it stands for, which removes knowledge where
    ablation does too little (Farrell et al. 2410.19278). An SAE's error stays.
    """
    edits = [Edit.of(t, "clamp", input.value, when_active=input.when_active) for t in input.targets]
    prompts = encode(context.subject, input.prompts, input.chat)
    return Output(**dict(measured(context, edits, prompts, input.metric)))
