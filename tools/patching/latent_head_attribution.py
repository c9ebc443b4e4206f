"""Which heads, and which tokens through them, make a latent fire."""

from typing import Annotated

from pydantic import Field

from tools.workbench.causes import by_source, causes, kinds, parts, place_of, random_like
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

MISSED = 1e-3  # of what the activation function is given, that the sum may miss


class Input(ToolInput):
    """The latent, a text, and the token on which it is to be explained: by default where it fires most."""

    latent: int = Field(ge=0)
    text: Annotated[str, Field(min_length=1, max_length=4000)]
    position: int | None = Field(None, ge=1, description="BOS is position 0")
    n: int = Field(12, ge=1, le=100)


class Controls(ToolOutput):
    """random_direction: the largest part for a random direction of the encoder's length. off: what the sum misses."""

    random_direction: float
    off: float


class Output(ToolOutput):
    """given: what the latent's activation function gets on that token, the sum of `constant` and the parts. kinds:
    those together. top: the largest. heads: layers x heads; sources: the strongest heads x the tokens they read.
    written_by: for a dictionary of heads' outputs, the share of the latent's decoder that each head has."""

    latent: str
    token: str
    position: int
    activation: float
    given: float
    constant: float
    kinds: tuple[Named, ...]
    top: tuple[Named, ...]
    heads: HeatMap
    sources: HeatMap
    written_by: tuple[Named, ...]
    controls: Controls
    verdict: str


@tool(version=1)
def latent_head_attribution(input: Input, context: Context) -> Output:
    """Explains why a latent fires on a token: what each head adds to it, read from which token, and what MLPs add.

    For dictionaries of heads' outputs side by side (2406.17759), where heads are all there is, and of the residual
    stream. Exact up to the activation function; patterns are taken as they are, so it does not say why a head attends.
    """
    subject = context.subject
    latent = subject.latent(input.latent)
    tokens = subject.to_tokens(input.text)
    activations = subject.activations(tokens)[0, :, input.latent]
    position = place_of(subject, tokens, activations, input.position)
    found = causes(subject, tokens, position, input.latent)
    if found.off > MISSED * max(1.0, abs(found.given)):
        raise ToolError(
            f"What {subject.dictionary.name!r} encodes is not linear in what the parts write (off by {found.off:.2g}), "
            "as where it rescales its input: it cannot be taken apart."
        )
    names, values = parts(found)
    order = values.abs().argsort(descending=True).tolist()[: input.n]
    top = tuple(Named(label=names[i], value=float(values[i])) for i in order)
    random = causes(subject, tokens, position, input.latent, random_like(context, input.latent))
    controls = Controls(random_direction=float(parts(random)[1].abs().max()), off=found.off)
    token = subject.token_strings(tokens[0, position : position + 1].tolist())[0]
    sources = by_source(subject, tokens, found)
    read = [(sources.rows[i], _most(line, sources.columns)) for i, line in enumerate(sources.values[:3])]
    verdict = (
        f"{latent} is {float(activations[position]):.3g} on {token!r} (position {position}); of the {found.given:.3g} "
        f"that its activation function gets, {found.constant:+z.3g} is constant, "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in top[:5])
        + "; "
        + ", ".join(f"{head} mostly from {where}" for head, where in read)
        + f". A random direction's largest part is {controls.random_direction:.3g}; the sum is off by {found.off:.1g}"
    )
    return Output(
        latent=str(latent),
        token=token,
        position=position,
        activation=float(activations[position]),
        given=found.given,
        constant=found.constant,
        kinds=kinds(found),
        top=top,
        heads=HeatMap.by_head(found.written.heads[0], found.first),
        sources=sources,
        written_by=_written_by(subject, input.latent),
        controls=controls,
        verdict=verdict,
    )


def _most(line: tuple[float | None, ...], columns: tuple[str, ...]) -> str:
    """The token that a head's part comes from most."""
    at = max(range(len(line)), key=lambda i: abs(line[i] or 0))
    return f"{columns[at]!r} ({line[at]:+z.3g})"


def _written_by(subject: Subject, latent: int) -> tuple[Named, ...]:
    if not subject.hook.endswith("attn.hook_z"):
        return ()
    norms = subject.dictionary.decoder[latent].float().reshape(subject.n_heads, subject.d_head).norm(dim=1)
    return tuple(Named(label=f"H{i}", value=float(norm / norms.sum())) for i, norm in enumerate(norms))
