"""Trains a probe at each layer, says where a label can be read best, and saves the probe of that place."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tools.workbench.activations import hook_of, read_activations
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.decoding import Graded, Split, gain, graded, learning_curve, surface_baselines
from tools.workbench.estimators import Estimator
from tools.workbench.labelled import Labelled, check_counts, gather, texts_of
from tools.workbench.pictures import draw
from tools.workbench.probe_reports import (
    Controls,
    LayerScore,
    Learned,
    Separation,
    curve_picture,
    is_clear,
    learning_picture,
    save_probe,
    separation_picture,
    told,
)
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.sites import At, named
from tools.workbench.subject import Subject

EVERY = 3  # layers of a sweep that names none
FIT = 1.0  # seconds of a layer's probe and its baselines


class Input(Labelled):
    """The texts, what is read of the model, and how. layers: "all", or those named; by default every third. Latents
    are those of the dictionary, at its own layer."""

    estimator: Estimator = "logistic"
    kind: Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "neuron", "latent"] = "resid_pre"
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["all"] = ()
    latents: bool = Field(False, description="also probe the dictionary's latents, to see whether they help")


class Latents(ToolOutput):
    """The same estimator on the dictionary's latents and, on the same texts, on what the dictionary reads (raw); gain:
    AUROC of the former minus that of the latter, by a paired bootstrap. helps: whether it is above 0 for sure."""

    auroc: float
    low: float
    high: float
    raw: float
    gain: float
    gain_low: float
    gain_high: float
    helps: bool


class Output(ToolOutput):
    """probe: the saved probe's name for apply_probe, steer and patching; None where it is not linear. layer: the best
    in cross-validation. n: held-out texts; fitted_on: the others; sinks: texts left out, with nothing but sinks to
    read. latents: where they are probed."""

    probe: str | None
    hook: str
    layer: int
    auroc: float
    low: float
    high: float
    n: int
    fitted_on: int
    sinks: int
    chosen: float = Field(description="the estimator's setting: inverse penalty, components, neighbours or decay")
    curve: tuple[LayerScore, ...]
    latents: Latents | None
    learning: tuple[Learned, ...]
    separation: Separation
    leaks: str
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every text is read once, then each layer's probe is fitted beside its baselines."""
    texts = texts_of(input, context)
    layers = len(_layers(context.subject, input))
    return pace(context.subject).reading(context.subject, texts, input.chat) + FIT * layers * (1 + len(texts) / 400)


@tool(version=2, estimate=estimate)
def train_probe(input: Input, context: Context) -> Output:
    """Where in the model can a label be read? Trains a probe at each layer, grades it on entities or documents that it
    never saw, beside shuffled labels, random directions and the text's surface, and saves the best layer's.

    That a probe reads a label does not mean that the model uses it: steer, ablate or patch with the saved probe to see.
    Beside latents stand the raw activations that they are made of. Source: Kantamneni et al. 2502.16681, section 3.
    """
    subject = context.subject
    data = gather(context, input)
    sites: list[At] = [(input.kind, layer) for layer in _layers(subject, input)]
    beside = [("latent", subject.layer_of(subject.hook)), named(subject, subject.hook)] if _compares(input) else []
    wanted: list[At] = list(dict.fromkeys([*sites, *beside]))
    readings = read_activations(context, data.cases, wanted, surface=True)
    sinks = int((~readings.read).sum())
    data = data.kept(readings.read)
    check_counts(data.positive, data.labels)
    values = {site: x[readings.read] for site, x in readings.values.items()}
    rng = context.rng("train_probe", input.model_dump_json())
    split = Split.of(data.positive, data.groups, rng)
    found: dict[At, Graded] = {}
    for done, site in enumerate(wanted, 1):
        found[site] = graded(input.estimator, values[site], split, rng)
        context.progress(done, len(wanted))
    best = max(sites, key=lambda site: (found[site].fitted.validated, -site[1]))
    chosen = found[best]
    compared = _compared(found[beside[0]], found[beside[1]], split, rng) if beside else None
    assert readings.surface is not None
    surface = surface_baselines(readings.surface[readings.read], data.texts, split, rng)
    learned = learning_curve(input.estimator, values[best], split, rng, chosen.fitted.chosen)
    clear = is_clear(chosen, surface)
    verdict = (
        f"{input.estimator.replace('_', ' ')} on {input.kind} of layer {best[1]} tells {' from '.join(data.labels)} "
        f"{told(chosen, surface, int(split.test.sum()))}"
        f": {'clear' if clear else 'not clear'} of its controls{_said(compared)}"
        f"{f'; {data.leaks}' if data.leaks else ''}"
    )
    curve = tuple(LayerScore.of(site[1], found[site]) for site in sites)
    name = f"{' against '.join(data.labels)}{f' in {input.dataset}' if input.dataset else ''}"
    return Output(
        probe=save_probe(context, best, chosen, values[best], split, f"train_probe {input.estimator}"),
        hook=hook_of(subject, best),
        layer=best[1],
        auroc=chosen.own.value,
        low=chosen.own.low,
        high=chosen.own.high,
        n=int(split.test.sum()),
        fitted_on=int((~split.test).sum()),
        sinks=sinks,
        chosen=chosen.fitted.chosen,
        curve=curve,
        latents=compared,
        learning=tuple(Learned(n=p.n, auroc=p.value, low=p.low, high=p.high) for p in learned),
        separation=Separation.of(chosen.scores, split),
        leaks=data.leaks,
        controls=Controls.of(chosen, surface),
        clear=clear,
        verdict=verdict,
        pictures=draw(
            context,
            "train_probe",
            input,
            curve=curve_picture(
                f"Where {name} can be read", {f"{input.estimator} on {input.kind}": curve}, surface, verdict
            ),
            separation=separation_picture(
                f"{name}: the probe of layer {best[1]}", chosen.scores, split, data.labels, verdict
            ),
            learning=learning_picture(f"{name}: how many texts it takes", learned, verdict),
        ),
    )


def _layers(subject: Subject, input: Input) -> list[int]:
    if input.kind == "latent":
        return [subject.layer_of(subject.hook)]
    if input.layers == "all":
        return list(range(subject.n_layers))
    return sorted(set(input.layers)) or list(range(0, subject.n_layers, EVERY))


def _compares(input: Input) -> bool:
    return input.latents or input.kind == "latent"


def _compared(latents: Graded, raw: Graded, split: Split, rng: np.random.Generator) -> Latents:
    more = gain(latents.scores, raw.scores, split, rng)
    return Latents(
        auroc=latents.own.value,
        low=latents.own.low,
        high=latents.own.high,
        raw=raw.own.value,
        gain=more.value,
        gain_low=more.low,
        gain_high=more.high,
        helps=more.low > 0,
    )


def _said(compared: Latents | None) -> str:
    if compared is None:
        return ""
    does = "helps" if compared.helps else "hurts" if compared.gain_high < 0 else "is not shown to help"
    return (
        f"; the dictionary's latents {compared.auroc:.2f}, what it reads {compared.raw:.2f}, a gain of "
        f"{compared.gain:+.2f} [{compared.gain_low:+.2f}, {compared.gain_high:+.2f}]: it {does}"
    )
