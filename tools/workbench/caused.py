"""One latent on one token, and what was added to it: what the tools that take it apart begin with."""

from typing import Annotated, NamedTuple

from pydantic import Field
from torch import Tensor

from tools.workbench.causes import Causes, causes, parts, place_of, random_like
from tools.workbench.context import Context
from tools.workbench.figures import Named
from tools.workbench.registry import ToolInput, ToolOutput


class LatentOnText(ToolInput):
    """The latent, a text, and the token on which it is to be explained: by default where it fires most."""

    latent: int = Field(ge=0)
    text: Annotated[str, Field(min_length=1, max_length=4000)]
    position: int | None = Field(None, ge=1, description="BOS is position 0")
    n: int = Field(12, ge=1, le=100)


class Controls(ToolOutput):
    """random_direction: the largest part for a random direction of the encoder's length. off: what the sum misses."""

    random_direction: float
    off: float


class Caused(NamedTuple):
    """The latent's name, the text int64[1, s], the token, its position and the activation there; its causes and the
    largest of them."""

    latent: str
    tokens: Tensor
    token: str
    position: int
    activation: float
    causes: Causes
    top: tuple[Named, ...]
    controls: Controls


def caused(context: Context, input: LatentOnText) -> Caused:
    """What the latent is given on the token, beside a random direction's."""
    subject = context.subject
    latent = subject.latent(input.latent)
    tokens = subject.to_tokens(input.text)
    activations = subject.activations(tokens)[0, :, input.latent]
    position = place_of(subject, tokens, activations, input.position)
    found = causes(subject, tokens, position, input.latent)
    names, values = parts(found)
    order = values.abs().argsort(descending=True).tolist()[: input.n]
    random = causes(subject, tokens, position, input.latent, random_like(context, input.latent))
    return Caused(
        str(latent),
        tokens,
        subject.token_strings(tokens[0, position : position + 1].tolist())[0],
        position,
        float(activations[position]),
        found,
        tuple(Named(label=names[i], value=float(values[i])) for i in order),
        Controls(random_direction=float(parts(random)[1].abs().max()), off=found.off),
    )
