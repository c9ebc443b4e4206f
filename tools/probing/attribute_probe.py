"""At which layer an entity's attribute can be read: at the entity, and where the prompt ends."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from store.types import Noun
from tools.workbench.activations import Case, read_activations
from tools.workbench.attributes import Classed, by_spelling, classed
from tools.workbench.causal import interval
from tools.workbench.charts import Line, Lines
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.datasets import targets
from tools.workbench.labelled import locate
from tools.workbench.metrics import encode
from tools.workbench.pictures import Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.sites import At
from tools.workbench.splits import groups_of

EVERY = 3  # layers of a sweep that names none
LEAST = 20  # entities
LEAST_EACH = 4  # of a value
HELD_OUT = 0.3
FIT = 2.0  # seconds of a layer's two probes
PLACES = ("entity", "end")


class Entity(Noun):
    """A name and its attribute's value."""

    name: Annotated[str, Field(min_length=1)]
    value: Annotated[str, Field(min_length=1)]


class Input(ToolInput):
    """Entities with their values, or the name of a labelled data set whose texts are names, of which n are taken.

    prompt: a text with {} where the entity stands and, after it, words that ask for the attribute. layers: "all", or
    those named; by default every third.
    """

    entities: tuple[Entity, ...] = ()
    dataset: str | None = None
    n: int = Field(300, ge=20, le=5000)
    prompt: str = Field("{} is", min_length=2)
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["all"] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (not self.entities):
            raise ValueError("give entities, or the name of a dataset")
        return self


class LayerAttribute(ToolOutput):
    """A place ("entity": its last token, "end": the prompt's) entering a layer. auroc: of the right value against the
    others, mean over held-out entities, with its 95 % interval; accuracy: the right one comes first; validated: the
    AUROC in cross-validation; shuffled: of shuffled values."""

    place: str
    layer: int
    auroc: float
    low: float
    high: float
    accuracy: float
    validated: float
    shuffled: float


class Controls(ToolOutput):
    """AUROC at the best layer with shuffled values; of what the name's letters tell, and the probe's gain over that on
    the same entities, with its interval; at layer 0, which knows the token alone. And the accuracy of always naming
    the commonest value."""

    shuffled: float
    spelling: float
    gain: float
    gain_low: float
    gain_high: float
    first_layer: float | None
    majority: float


class Output(ToolOutput):
    """place and layer: the best in cross-validation. entity_peak and end_peak: the layers at which either place is
    best. n: held-out entities, of which none was among the others."""

    place: str
    layer: int
    auroc: float
    low: float
    high: float
    accuracy: float
    n: int
    values: tuple[str, ...]
    entity_peak: int
    end_peak: int
    curve: tuple[LayerAttribute, ...]
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every prompt is read once, then two probes a layer are fitted."""
    texts = [input.prompt.replace("{}", entity.name) for entity in _entities(input, context)]
    layers = context.subject.n_layers if input.layers == "all" else len(input.layers) or 10
    return pace(context.subject).reading(context.subject, texts) + FIT * layers


@tool(version=1, estimate=estimate)
def attribute_probe(input: Input, context: Context) -> Output:
    """From which layer on can an entity's attribute be read at its last token, and where does the end take it up?

    Graded on entities that the probe never saw, beside shuffled values and what the letters of a name give away: that a
    country can be guessed from how its towns are spelled is no knowledge. Source: Nanda et al. 2023, Fact Finding.
    """
    subject = context.subject
    entities = _entities(input, context)
    truth = groups_of([entity.value for entity in entities])
    values = tuple(dict.fromkeys(entity.value for entity in entities))
    _check(input, entities, truth, values)
    layers = list(range(subject.n_layers)) if input.layers == "all" else sorted(set(input.layers))
    sites: list[At] = [("resid_pre", layer) for layer in layers or range(0, subject.n_layers, EVERY)]
    cases: dict[str, list[Case]] = {place: [] for place in PLACES}
    prompts = encode(subject, [input.prompt.replace("{}", entity.name) for entity in entities])
    for entity, ids in zip(entities, prompts, strict=True):
        span = tuple(locate(subject, ids, entity.name))
        cases["entity"].append(Case(tuple(ids), span[-1:], span))
        cases["end"].append(Case(tuple(ids), (len(ids) - 1,), span))
    readings = read_activations(context, [*cases["entity"], *cases["end"]], sites)
    half = len(entities)
    kept = readings.read[:half] & readings.read[half:]
    rng = context.rng("attribute_probe", input.model_dump_json())
    test = _held_out(truth[kept], rng)
    found: dict[tuple[str, int], Classed] = {}
    for done, site in enumerate(sites, 1):
        for place, rows in zip(PLACES, (slice(None, half), slice(half, None)), strict=True):
            found[place, site[1]] = classed(readings.values[site][rows][kept], truth[kept], test, rng)
        context.progress(done, len(sites))
    best = max(found, key=lambda at: (found[at].validated, -at[1]))
    own = found[best]
    names = [entity.name for entity, keep in zip(entities, kept, strict=True) if keep]
    letters = by_spelling(names, truth[kept], test)
    spelling = float(letters.mean())
    low, high = interval(own.standings - letters)
    assert low is not None
    assert high is not None
    first = found.get((best[0], 0))
    controls = Controls(
        shuffled=own.shuffled,
        spelling=spelling,
        gain=own.own.value - spelling,
        gain_low=low,
        gain_high=high,
        first_layer=first.own.value if first else None,
        majority=float(np.bincount(truth[kept][test]).max() / test.sum()),
    )
    peaks = {place: max((at for at in found if at[0] == place), key=lambda at: found[at].validated) for place in PLACES}
    clear = own.own.low > max(own.shuffled, 0.5) and low > 0
    verdict = (
        f"the right one of {len(values)} values is read best at the {best[0]} entering layer {best[1]}, with an AUROC "
        f"of {own.own.value:.2f} [{own.own.low:.2f}, {own.own.high:.2f}] on {int(test.sum())} entities that the probe "
        f"never saw, and comes first for {own.accuracy:.0%} (the commonest value: {controls.majority:.0%}); shuffled "
        f"values {own.shuffled:.2f}, the letters of the name {spelling:.2f} (a gain of {own.own.value - spelling:+.2f} "
        f"[{low:+.2f}, {high:+.2f}]); the entity is best at layer {peaks['entity'][1]}, the end at layer "
        f"{peaks['end'][1]}: {'clear' if clear else 'not clear'} of its controls"
    )
    return Output(
        place=best[0],
        layer=best[1],
        auroc=own.own.value,
        low=own.own.low,
        high=own.own.high,
        accuracy=own.accuracy,
        n=int(test.sum()),
        values=values,
        entity_peak=peaks["entity"][1],
        end_peak=peaks["end"][1],
        curve=tuple(
            LayerAttribute(
                place=place,
                layer=layer,
                auroc=each.own.value,
                low=each.own.low,
                high=each.own.high,
                accuracy=each.accuracy,
                validated=each.validated,
                shuffled=each.shuffled,
            )
            for (place, layer), each in found.items()
        ),
        controls=controls,
        clear=clear,
        verdict=verdict,
        pictures=draw(context, "attribute_probe", input, curve=_picture(input, found, spelling, verdict)),
    )


def _entities(input: Input, context: Context) -> list[Entity]:
    if input.dataset is None:
        return list(input.entities)
    rows = dict(targets(input.dataset))  # of a name that stands twice the last value
    names = context.rng("attributes", input.dataset, input.n).permutation(sorted(rows))[: input.n]
    return [Entity(name=str(name), value=rows[str(name)]) for name in names]


def _check(input: Input, entities: list[Entity], truth: np.ndarray, values: tuple[str, ...]) -> None:
    if input.prompt.count("{}") != 1:
        raise ToolError(f"{input.prompt!r} must hold {{}} once: write it where the entity stands.")
    if len(values) < 2:
        raise ToolError(f"Every entity has the value {values[0]!r}: a probe needs two values or more.")
    names = [entity.name for entity in entities]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ToolError(f"{twice[0]!r} is named twice, and could stand on both sides of the split: name it once.")
    if len(entities) < LEAST:
        raise ToolError(f"There are {len(entities)} entities, of which some must be held out: give at least {LEAST}.")
    counts = np.bincount(truth)
    if counts.min() < LEAST_EACH:
        few = values[int(counts.argmin())]
        raise ToolError(
            f"The value {few!r} has {counts.min()} entities and {len(values)} values are named: give each at least "
            f"{LEAST_EACH}, or leave it out."
        )


def _held_out(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool[n]: some entities of each value; every name stands once."""
    test = np.zeros(len(truth), bool)
    for value in np.unique(truth):
        own = rng.permutation(np.flatnonzero(truth == value))
        test[own[: max(1, round(HELD_OUT * len(own)))]] = True
    return test


def _picture(input: Input, found: dict[tuple[str, int], Classed], spelling: float, foot: str) -> Picture | None:
    layers = sorted({layer for _, layer in found})
    if len(layers) < 2:
        return None
    x = tuple(map(float, layers))
    lines = [
        Line(
            "the entity's last token" if place == "entity" else "the prompt's last token",
            x,
            tuple(found[place, layer].own.value for layer in layers),
            tuple(found[place, layer].own.low for layer in layers),
            tuple(found[place, layer].own.high for layer in layers),
        )
        for place in PLACES
    ]
    lines += [
        Line("shuffled values", x, tuple(found["entity", layer].shuffled for layer in layers), beside=True),
        Line("the letters of the name", x, (spelling,) * len(x), beside=True),
    ]
    return Picture(
        f"Where {input.dataset or 'the attribute'} can be read in {input.prompt!r}",
        Lines(tuple(lines), "layer", level=0.5),
        "AUROC of the right value",
        foot,
    )
