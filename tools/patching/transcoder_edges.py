"""What makes a transcoder's latent fire, and what it reads of tokens by weights alone."""

from typing import Annotated

import torch
from pydantic import Field

from tools.workbench.causes import by_source, causes, kinds, parts, place_of, random_like
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.unembed import through_norm

TOKENS = 10
TOGETHER = 8192  # embeddings


class Input(ToolInput):
    """The transcoder's latent, a text, and the token: by default where it fires most."""

    latent: int = Field(ge=0)
    text: Annotated[str, Field(min_length=1, max_length=4000)]
    position: int | None = Field(None, ge=1, description="BOS is position 0")
    n: int = Field(12, ge=1, le=100)


class Controls(ToolOutput):
    """random_direction: the largest edge into a random direction of the encoder's length. off: what the sum misses."""

    random_direction: float
    off: float


class Output(ToolOutput):
    """given: what the latent's activation function gets, the norm before the MLP held at what it was: the sum of all
    edges. top: the largest edges; sources: the strongest heads x the tokens they read through OV. embeddings: the
    tokens whose embedding, seen by the encoder alone, raises the latent most: input-invariant."""

    latent: str
    token: str
    position: int
    activation: float
    given: float
    kinds: tuple[Named, ...]
    top: tuple[Named, ...]
    heads: HeatMap
    sources: HeatMap
    embeddings: tuple[Named, ...]
    controls: Controls
    verdict: str


@tool(version=1)
def transcoder_edges(input: Input, context: Context) -> Output:
    """Traces a transcoder's latent back: the edges into it from the embedding, every earlier head by source token, and
    every earlier MLP, which add up to what it is given (2406.11944). Needs a transcoder as the dictionary.
    """
    subject = context.subject
    if not subject.dictionary.is_transcoder:
        raise ToolError(
            f"The dictionary {subject.dictionary.name!r} is no transcoder: use latent_head_attribution, or load one."
        )
    latent = subject.latent(input.latent)
    tokens = subject.to_tokens(input.text)
    activations = subject.activations(tokens)[0, :, input.latent]
    position = place_of(subject, tokens, activations, input.position)
    found = causes(subject, tokens, position, input.latent)
    names, values = parts(found)
    order = values.abs().argsort(descending=True).tolist()[: input.n]
    top = tuple(Named(label=names[i], value=float(values[i])) for i in order)
    random = causes(subject, tokens, position, input.latent, random_like(context, input.latent))
    controls = Controls(random_direction=float(parts(random)[1].abs().max()), off=found.off)
    token = subject.token_strings(tokens[0, position : position + 1].tolist())[0]
    verdict = (
        f"{latent} is {float(activations[position]):.3g} on {token!r} (position {position}), given {found.given:.3g}: "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in kinds(found))
        + "; the largest edges are from "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in top[:5])
        + f". A random direction's largest is {controls.random_direction:.3g}; the sum is off by {found.off:.1g}"
    )
    return Output(
        latent=str(latent),
        token=token,
        position=position,
        activation=float(activations[position]),
        given=found.given,
        kinds=kinds(found),
        top=top,
        heads=HeatMap.by_head(found.written.heads[0]),
        sources=by_source(subject, tokens, found),
        embeddings=_embeddings(context, input.latent),
        controls=controls,
        verdict=verdict,
    )


def _embeddings(context: Context, latent: int) -> tuple[Named, ...]:
    """The tokens of the vocabulary whose embedding has the largest product with the encoder, the norm's gain folded."""
    subject = context.subject
    block = subject.model.blocks[subject.layer_of(subject.hook)]
    encoder = through_norm(subject, subject.dictionary.sae.W_enc[:, latent].detach(), block.ln2).float()
    vocabulary = torch.arange(int(subject.model.cfg.d_vocab))[:, None]
    first = subject.residual_points[0]
    given = torch.cat(
        [
            subject.value_at(first, vocabulary[i : i + TOGETHER])[:, 0].float() @ encoder
            for i in range(0, len(vocabulary), TOGETHER)
        ]
    )
    best = given.topk(TOKENS)
    names = subject.token_strings(best.indices.tolist())
    return tuple(Named(label=name, value=float(value)) for name, value in zip(names, best.values, strict=True))
