"""What each part of the model itself adds to the logit of one answer over another."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import interval, told
from tools.workbench.components import Written, into_stream
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import HeatMap, Named
from tools.workbench.logit_parts import Attributed, attribute
from tools.workbench.pairs import Aligned, Batch, Contrast, Dropped, aligned, batch
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.sitemap import labels
from tools.workbench.subject import Subject

ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}  # of the sum, in logits
ROUGHLY = 0.3  # in 16 bits
SOURCES = 12  # heads whose source tokens are told

LICENCE = (
    "This is what each part adds to the logits by itself, the final norm's scale held: what later parts make of it is "
    "left out, so a part with none may matter and a part with much be made up for."
)


class Input(Contrast):
    """The pairs: what is attributed is the clean prompts' logit difference, answer minus other, after the last token.

    They are used as far as their positions mean the same, so that source tokens can be told.
    """

    n_top: int = Field(20, ge=1, le=200, description="parts, and latents, that are told one by one")


class Part(ToolOutput):
    """A part and what it adds to the logit difference, mean over pairs with its 95 % interval; and on the corrupted
    prompts, the answers being the same."""

    label: str
    value: float
    low: float | None
    high: float | None
    corrupted: float


class LatentPart(ToolOutput):
    """A latent, and what it adds after the last token."""

    label: str
    value: float


class Latents(ToolOutput):
    """The dictionary's hook point taken apart: all latents together, its bias, and what it does not explain. They add
    up to `whole`, which is what the parts below add."""

    hook: str
    top: tuple[LatentPart, ...]
    together: float
    bias: float
    error: float
    whole: float


class Controls(ToolOutput):
    """corrupted: the logit difference where the cause is replaced. exchanged_answers: the largest part, taken in the
    same way, for the answers of another pair (for one pair: for two tokens drawn at random). off: logits that the sum
    misses at most."""

    corrupted: float
    exchanged_answers: float
    off: float


class Output(ToolOutput):
    """The logit difference and the parts it is the sum of. kinds: embedding, heads, MLPs and biases together. top: the
    largest parts. heads: a map of layers x heads; sources: of the strongest heads x the tokens they read."""

    pairs: int
    logit_difference: float
    low: float | None
    high: float | None
    kinds: tuple[Named, ...]
    top: tuple[Part, ...]
    heads: HeatMap
    sources: HeatMap
    latents: Latents | None
    controls: Controls
    licence: str
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: four readings of the clean prompts, heads told by source."""
    pairs = aligned(context.subject, input, context.seed)
    own = pace(context.subject)
    return 5 * (own.start + own.token * sum(len(pair.clean) for pair in pairs.kept))


@tool(version=1, estimate=estimate)
def direct_logit_attribution(input: Input, context: Context) -> Output:
    """Splits a logit difference into what the embedding, each head, each MLP and each latent add to it themselves.

    Exact: the final norm's scale is frozen and its gain folded in, so the parts add up. Heads are split further by the
    token that they read. Direct effects only; patch to find what a part does through others.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed).same_places(subject)
    own = batch(pairs.kept)
    asked = (own.clean, own.answer, own.other), (own.corrupted, own.answer, own.other)
    readings = []
    for done, each in enumerate((*asked, (own.clean, *_exchanged(context, own))), 1):
        readings.append(attribute(subject, *each))
        context.progress(done, 3)
    found, corrupted, exchanged = readings
    off = float((found.sum - found.measured).abs().max())
    if off > ROUNDING.get(subject.dtype, ROUGHLY):
        raise ToolError(
            f"The parts of {subject.name} miss its logits by {off:.2g}, as they do where outputs are normalised or "
            "logits capped after the parts: patch it instead."
        )
    names, values = found.named()
    beside = corrupted.named()[1].mean(0)
    means = values.mean(0)
    order = means.abs().argsort(descending=True).tolist()[: input.n_top]
    top = tuple(_part(names[i], values[:, i], float(beside[i])) for i in order)
    measured = found.measured.cpu().numpy()
    low, high = interval(measured)
    controls = Controls(
        corrupted=float(corrupted.measured.mean()),
        exchanged_answers=float(exchanged.named()[1].mean(0).abs().max()),
        off=off,
    )
    written = found.written
    kinds = {
        "embedding": written.embed.mean(),
        "attention heads": written.heads.mean(0).sum(),
        "MLPs": written.mlps.mean(0).sum(),
        "biases": written.biases.mean(0).sum() + found.constant.mean(),
    }
    verdict = (
        f"the logit difference {told(float(measured.mean()), low, high)} on {len(measured)} prompts is "
        + ", ".join(f"{name} {float(value):+z.2f}" for name, value in kinds.items())
        + "; the largest parts are "
        + ", ".join(f"{part.label} {part.value:+z.2f}" for part in top[:5])
        + f" (on corrupted prompts {', '.join(f'{part.corrupted:+z.2f}' for part in top[:5])}); for exchanged answers "
        f"the largest is {controls.exchanged_answers:.2f}. The sum is off by {off:.1g}. {LICENCE}"
    )
    heads, sources = HeatMap.by_head(written.heads.mean(0)), _sources(subject, pairs.kept[0], written)
    title = f"Direct logit attribution, {len(measured)} prompts, answer less other {measured.mean():+z.2f}"
    told_controls = controls_said(controls)
    largest = Bars(tuple(Bar(part.label, part.value, part.low, part.high) for part in top))
    return Output(
        pairs=len(measured),
        logit_difference=float(measured.mean()),
        low=low,
        high=high,
        kinds=tuple(Named(label=name, value=float(value)) for name, value in kinds.items()),
        top=top,
        heads=heads,
        sources=sources,
        latents=_latents(subject, own.clean, found, input.n_top),
        controls=controls,
        licence=LICENCE,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "direct_logit_attribution",
            input,
            heads=Picture(f"{title}; heads", heads, "logits added", told_controls),
            sources=Picture(f"{title}; by the token read", sources, "logits added", told_controls),
            parts=Picture(f"{title}; the largest parts", largest, "logits added", told_controls),
        ),
        verdict=verdict,
    )


def _exchanged(context: Context, own: Batch) -> tuple[Tensor, Tensor]:
    """int64[n] each: the answers of the pair before; two random tokens where there is but one pair."""
    if len(own.answer) > 1:
        return own.answer.roll(1), own.other.roll(1)
    rng = context.rng("direct_logit_attribution")
    drawn = rng.choice(int(context.subject.model.cfg.d_vocab), 2, replace=False)
    return torch.tensor([int(drawn[0])]), torch.tensor([int(drawn[1])])


def _part(label: str, values: Tensor, corrupted: float) -> Part:
    own: np.ndarray = values.cpu().numpy()
    low, high = interval(own)
    return Part(label=label, value=float(own.mean()), low=low, high=high, corrupted=corrupted)


def _sources(subject: Subject, first: Aligned, written: Written) -> HeatMap:
    """The strongest heads by the first pair's tokens, mean over pairs."""
    strength = written.heads.mean(0)
    order = strength.abs().flatten().argsort(descending=True)[:SOURCES].tolist()
    heads = [divmod(index, strength.shape[1]) for index in order]
    values = torch.stack([written.sources[:, layer, head].mean(0) for layer, head in heads])
    return HeatMap.of([f"L{layer}H{head}" for layer, head in heads], labels(subject, first), values)


def _latents(subject: Subject, tokens: Tensor, found: Attributed, n: int) -> Latents | None:
    """None where the dictionary is not of what is added to the residual stream."""
    write = into_stream(subject, subject.hook)
    if write is None:
        return None
    dictionary = subject.dictionary
    value = subject.residual(tokens)[:, -1]
    activations = dictionary.encode(value)
    explained, bias = dictionary.decode(activations), dictionary.decode(torch.zeros_like(activations))

    def along(each: Tensor) -> Tensor:
        return (write(each).double() * found.direction).sum(-1).mean()

    added = (activations.double() * (found.direction @ write(dictionary.decoder).double().T)).mean(0)
    order = added.abs().argsort(descending=True).tolist()[:n]
    return Latents(
        hook=subject.hook,
        top=tuple(LatentPart(label=f"latent {i}", value=float(added[i])) for i in order if added[i] != 0),
        together=float(added.sum()),
        bias=float(along(bias)),
        error=float(along(value) - along(explained)),
        whole=float(along(value)),
    )
