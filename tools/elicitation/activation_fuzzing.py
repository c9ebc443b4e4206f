"""Shakes the residual stream at a layer while the model answers: does it then say what it keeps?"""

import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.attacks import QUESTIONS, Attacked, BlackBox, Heard, attacked_by, questions, seconds
from tools.workbench.beside import both
from tools.workbench.context import Context
from tools.workbench.lens import check_layers
from tools.workbench.registry import tool
from tools.workbench.subject import Splice, Subject
from tools.workbench.writing import written


class Input(BlackBox):
    """The layer whose input is shaken, how strongly, and how often each question is asked."""

    layer: int | None = Field(None, ge=0, description="residual stream entering it; by default two thirds up")
    scale: float = Field(0.5, ge=0, le=10, description="length of the noise, times the residual stream's typical norm")
    samples: int = Field(2, ge=1, le=32, description="of each of eight questions")


class Output(Attacked):
    """See `Attacked`. The plain questions are those without noise."""


def estimate(input: Input, context: Context) -> float:
    """Seconds: every reply of both models, and those without noise."""
    return seconds(context, len(QUESTIONS) * input.samples, input.tokens)


@tool(version=1, estimate=estimate)
def activation_fuzzing(input: Input, context: Context) -> Output:
    """Adds random noise to the residual stream at a layer while the model answers, the same for the same seed.

    A habit of keeping something is often more brittle than the knowledge of it. Both models get the same noise. Source:
    Cywinski et al. 2510.01070.
    """
    subject = context.subject
    layer = round(2 * subject.n_layers / 3) if input.layer is None else input.layer
    check_layers(subject, [layer])
    attempts = questions(subject, input.topic) * input.samples
    seed = int(context.rng("activation_fuzzing", input.model_dump_json()).integers(2**31))
    size = input.scale * subject.layer_norms[layer]

    def shaken(model: Subject) -> list[str]:
        ids = [attempt.ids for attempt in attempts]
        found = written(model, ids, input.tokens, also=[noise(subject, layer, size, seed)])
        return [model.tokenizer.decode(each) for each in found]

    own, base = both(context, shaken)
    return Output(**dict(attacked_by(context, "activation_fuzzing", input, Heard(attempts, own, base))))


def noise(subject: Subject, layer: int, size: float, seed: int) -> Splice:
    """Gaussian noise of mean length `size` on every token but a prompt's first, the same numbers for the same seed and
    prompts on every device."""
    generator = torch.Generator().manual_seed(seed)

    def shake(value: Tensor) -> Tensor:
        drawn = torch.randn(value.shape, generator=generator) * size / subject.d_model**0.5
        if value.shape[1] > 1:
            drawn[:, 0] = 0  # BOS, an attention sink
        shaken: Tensor = value + drawn.to(value)
        return shaken

    return f"blocks.{layer}.hook_resid_pre", shake
