"""One latent's activation on every token of given texts."""

import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.reading import read_text
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    """A latent and the texts to run; each is read on its own, from the start of the model's context."""

    latent: int
    texts: tuple[str, ...] = Field(min_length=1, max_length=100)


class Reading(ToolOutput):
    """One text: its tokens (they add up to the text), the activation on each in dictionary units, and the highest."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: float
    peak_token: str | None = Field(description="None when the latent does not fire")


class Output(ToolOutput):
    """The readings in the order of the texts, and the latent's maximum over the harvest to compare them with."""

    latent: str
    readings: tuple[Reading, ...]
    harvest_max: float | None


@tool(version=1)
def activate_on_text(input: Input, context: Context) -> Output:
    """Measures how strongly a latent fires on each token of texts you write: the quickest test of a hypothesis.

    Write minimal pairs: a text that should make it fire, and the same text with only the supposed cause changed.
    """
    latent = context.subject.latent(input.latent)
    readings = []
    for text in input.texts:
        reading = read_text(context.subject, text)
        activations: list[float] = torch.cat([part[:, input.latent] for part in reading.encoded()]).tolist()
        peak = max(activations)
        token = reading.tokens[activations.index(peak)] if peak > 0 else None
        readings.append(Reading(tokens=reading.tokens, activations=tuple(activations), peak=peak, peak_token=token))
    maximum = float(context.harvest.stats().max[input.latent]) if context.harvest else None
    return Output(latent=str(latent), readings=tuple(readings), harvest_max=maximum)
