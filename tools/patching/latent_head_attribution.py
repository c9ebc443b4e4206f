"""Which heads, and which tokens through them, make a latent fire."""

from tools.workbench.caused import Controls, LatentOnText, caused
from tools.workbench.causes import by_source, kinds
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.subject import Subject

MISSED = 1e-3  # of what the activation function is given, that the sum may miss


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
def latent_head_attribution(input: LatentOnText, context: Context) -> Output:
    """Explains why a latent fires on a token: what each head adds to it, read from which token, and what MLPs add.

    For dictionaries of heads' outputs side by side (2406.17759), where heads are all there is, and of the residual
    stream. Exact up to the activation function; patterns are taken as they are, so it does not say why a head attends.
    """
    subject = context.subject
    on = caused(context, input)
    found, top, controls = on.causes, on.top, on.controls
    if found.off > MISSED * max(1.0, abs(found.given)):
        raise ToolError(
            f"What {subject.dictionary.name!r} encodes is not linear in what the parts write (off by {found.off:.2g}), "
            "as where it rescales its input: it cannot be taken apart."
        )
    sources = by_source(subject, on.tokens, found)
    read = [(sources.rows[i], _most(line, sources.columns)) for i, line in enumerate(sources.values[:3])]
    verdict = (
        f"{on.latent} is {on.activation:.3g} on {on.token!r} (position {on.position}); of the {found.given:.3g} "
        f"that its activation function gets, {found.constant:+z.3g} is constant, "
        + ", ".join(f"{each.label} {each.value:+z.3g}" for each in top[:5])
        + "; "
        + ", ".join(f"{head} mostly from {where}" for head, where in read)
        + f". A random direction's largest part is {controls.random_direction:.3g}; the sum is off by {found.off:.1g}"
    )
    return Output(
        latent=on.latent,
        token=on.token,
        position=on.position,
        activation=on.activation,
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
