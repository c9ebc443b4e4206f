"""What makes a transcoder's latent fire, and what it reads of tokens by weights alone."""

import torch

from tools.workbench.caused import Controls, LatentOnText, caused
from tools.workbench.causes import by_source, kinds
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.unembed import through_norm

TOKENS = 10
TOGETHER = 8192  # embeddings


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
def transcoder_edges(input: LatentOnText, context: Context) -> Output:
    """Traces a transcoder's latent back: the edges into it from the embedding, every earlier head by source token, and
    every earlier MLP, which add up to what it is given (2406.11944). Needs a transcoder as the dictionary.
    """
    subject = context.subject
    if not subject.dictionary.is_transcoder:
        raise ToolError(
            f"The dictionary {subject.dictionary.name!r} is no transcoder: use latent_head_attribution, or load one."
        )
    on = caused(context, input)
    found, top, controls = on.causes, on.top, on.controls
    verdict = (
        f"{on.latent} is {on.activation:.3g} on {on.token!r} (position {on.position}), given {found.given:.3g}: "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in kinds(found))
        + "; the largest edges are from "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in top[:5])
        + f". A random direction's largest is {controls.random_direction:.3g}; the sum is off by {found.off:.1g}"
    )
    return Output(
        latent=on.latent,
        token=on.token,
        position=on.position,
        activation=on.activation,
        given=found.given,
        kinds=kinds(found),
        top=top,
        heads=HeatMap.by_head(found.written.heads[0]),
        sources=by_source(subject, on.tokens, found),
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
