"""Before a label is called not linear: is it linear in another encoding, relative to something else in the text?"""

from itertools import combinations

import numpy as np
from pydantic import Field

from tools.workbench.activations import read_activations
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.decoding import Graded, Split, graded, surface_baselines
from tools.workbench.labelled import Labelled, gather, texts_of
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.probe_reports import Controls, ProbeScore, is_clear, save_probe, told
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.sites import At

FITS = 4.0  # seconds
LINEAR = 0.1  # AUROC by which an encoding must be ahead of the label as it is


class Input(Labelled):
    """The texts and, for each of them, positive ones first, what the label may be relative to: whose turn it is, say.
    Every factor is tried, and every two together."""

    factors: dict[str, tuple[bool, ...]] = Field(min_length=1, max_length=4)
    layer: int | None = Field(None, ge=0, description="residual stream entering it; None: where the dictionary reads")


class Encoding(ProbeScore):
    """A label and its linear probe. factor: a factor itself, no encoding of the label."""

    label: str
    factor: bool


class Output(ToolOutput):
    """encodings: the label as it is first. best: by cross-validation; probe: its saved probe. mlp: a small network on
    the label as it is, which needs no encoding. relative: whether an encoding is linear where the label is not."""

    encodings: tuple[Encoding, ...]
    best: str
    probe: str | None
    auroc: float
    low: float
    high: float
    n: int
    mlp: float
    relative: bool
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every text is read once, then a probe of each encoding."""
    return pace(context.subject).reading(context.subject, texts_of(input, context), input.chat) + FITS


@tool(version=3, estimate=estimate)
def relabel_probe(input: Input, context: Context) -> Output:
    """A linear probe fails on black and white: does it read mine and yours? Tries the label relative to each factor.

    A relative label is the exclusive or of label and factors. A label that no encoding makes linear, and that a small
    network reads, is not linear here; one that the network cannot read either is not there, or too few texts show it.
    Sources: Li et al. 2210.13382; Nanda et al. 2309.00941.
    """
    subject = context.subject
    data = gather(context, input)
    for name, values in input.factors.items():
        if len(values) != len(data.texts):
            raise ToolError(f"The factor {name!r} has {len(values)} values and there are {len(data.texts)} texts.")
    layer = subject.layer_of(subject.hook) if input.layer is None else input.layer
    site: At = ("resid_pre", layer)
    readings = read_activations(context, data.cases, [site], surface=True)
    x = readings.values[site][readings.read]
    factors = {name: np.array(values)[readings.read] for name, values in input.factors.items()}
    data = data.kept(readings.read)
    assert readings.surface is not None
    rng = context.rng("relabel_probe", input.model_dump_json())
    plain = " or ".join(data.labels)
    labels = {plain: data.positive}
    for names in (*combinations(factors, 1), *combinations(factors, 2)):
        labels[f"{plain}, relative to {' and '.join(names)}"] = np.logical_xor.reduce(
            [data.positive, *(factors[name] for name in names)]
        )
    found: dict[str, Graded] = {}
    splits: dict[str, Split] = {}
    for label, positive in (labels | factors).items():
        if len(np.unique(positive)) < 2:
            raise ToolError(f"{label!r} is the same for every text: leave that factor out, or give other texts.")
        splits[label] = Split.of(positive, data.groups, rng)
        found[label] = graded("logistic", x, splits[label], rng)
    mlp = graded("mlp", x, splits[plain], rng).own.value
    best = max(labels, key=lambda label: found[label].fitted.validated)
    chosen, split = found[best], splits[best]
    surface = surface_baselines(readings.surface[readings.read], data.texts, split, rng)
    ahead = chosen.own.value - found[plain].own.value
    relative = best != plain and ahead >= LINEAR and chosen.own.low > max(found[plain].own.value, 0.5)
    clear = is_clear(chosen, surface)
    verdict = (
        f"entering layer {layer}, a linear probe reads {plain} with an AUROC of {found[plain].own.value:.2f} "
        f"[{found[plain].own.low:.2f}, {found[plain].own.high:.2f}], a small network {mlp:.2f}; the encoding that does "
        f"best in cross-validation, {best}, is read {told(chosen, surface, int(split.test.sum()))}: "
        f"{'linear in that encoding' if relative else 'no relative encoding is shown to be better'}, "
        f"{'clear' if clear else 'not clear'} of its controls"
    )
    bars = tuple(
        Bar(label, each.own.value, each.own.low, each.own.high, beside=label in factors)
        for label, each in found.items()
    )
    return Output(
        encodings=tuple(
            Encoding(label=label, factor=label in factors, **Encoding.fields(each)) for label, each in found.items()
        ),
        best=best,
        probe=save_probe(context, site, chosen, x, split, "relabel_probe"),
        auroc=chosen.own.value,
        low=chosen.own.low,
        high=chosen.own.high,
        n=int(split.test.sum()),
        mlp=mlp,
        relative=relative,
        controls=Controls.of(chosen, surface),
        clear=clear,
        verdict=verdict,
        pictures=draw(
            context,
            "relabel_probe",
            input,
            encodings=Picture(
                f"{plain} and its encodings, layer {layer}",
                Bars((*bars, Bar("a small network on the label as it is", mlp, beside=True))),
                "AUROC on held-out texts",
                verdict,
            ),
        ),
    )
