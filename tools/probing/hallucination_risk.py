"""The probability that what a model says of an entity is made up, read from its residual stream while it speaks."""

from collections.abc import Callable
from itertools import count
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from tools.probing.facts import AboutFacts, spot
from tools.probing.knowledge import needed
from tools.probing.risk import Fitted, cross_fitted, fit, probability, simple, within
from tools.probing.risk_report import (
    LICENCE,
    Baseline,
    ByRelation,
    Controls,
    Risk,
    beside,
    diagram,
    separation,
    verdict,
)
from tools.probing.risk_rows import Rows, entities, spoken
from tools.probing.risk_stream import Text, Watched, watch
from tools.workbench.calibration import calibration_error, reliability
from tools.workbench.compute import go_on
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.pictures import draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.splits import FOLDS, folds
from tools.workbench.stats import auroc, auroc_interval

LAYERS = (12, 16, 18, 20, 22, 24)
SHUFFLES, RANDOMS = 5, 20
FITS = 40.0  # seconds
TOKENS = 8  # of a reply by which knowledge is told


class Input(AboutFacts):
    """What the model is asked to tell what it knows, and the texts to watch then."""

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=30)] = LAYERS
    texts: tuple[Text, ...] = Field((), max_length=32, description="prompts that are continued and watched")
    tokens: int = Field(24, ge=1, le=256, description="written after each text")
    by_token: bool = Field(True, description="fit a probe for tokens that are being written, as well")


class Output(ToolOutput):
    """value, low, high, chance: of `entity`, the risk at an entity's last token; token: that at a token being written.
    left_out: entities that are neither known nor unknown. watched: the texts, each token with its risk, highlighted."""

    value: float
    low: float
    high: float
    chance: float
    known: int
    unknown: int
    left_out: int
    entity: Risk
    token: Risk | None
    relations: tuple[ByRelation, ...]
    watched: tuple[Watched, ...]
    controls: Controls
    clear: bool
    licence: str
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds, were nothing kept from earlier runs: every paraphrase is answered, then read."""
    facts = [f for r in input.chosen(context) for f in r.facts]
    now = pace(context.subject)
    rows = 3 * len(facts)
    reading = (1 + input.by_token) * now.token * 20 * rows
    return now.writing(rows, 14, TOKENS) + reading + FITS + len(input.texts) * now.writing(1, 20, input.tokens)


@tool(version=3, estimate=estimate)
def hallucination_risk(input: Input, context: Context) -> Output:
    """Fits and checks a probability that what the model says is made up, per entity and per token, and watches texts.

    Labels are the model's own answers over paraphrases (label_knowledge). Tried on entities never seen, beside what
    needs no look inside: the name's log-probability, its tokens, the relation, the model's own confidence. Texts are
    watched as they are written. Sources: Ferrando et al. 2411.14257; Orgad et al. 2410.02707.
    """
    subject = context.subject
    for layer in input.layers:
        if layer >= subject.n_layers:
            raise ToolError(f"Layer {layer} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    for text in input.texts:  # now, not after minutes
        if text.entity is not None:
            spot(subject, text.prompt, text.entity)
    relations = input.chosen(context)
    asked, found = needed(context, relations)
    rng = context.rng("hallucination_risk", input.model_copy(update={"texts": (), "tokens": 1}).model_dump_json())
    rows = entities(context, found, input.layers)
    seed = int(rng.integers(2**31))
    written = spoken(context, asked, input.layers) if input.by_token else None
    tell = _telling(context, (1 + input.by_token) * (FOLDS + 1) + SHUFFLES)
    entity, odds = _tried(context, rows, seed, rng, "entity", tell)
    token = _tried(context, written, seed, rng, "token", tell)[0] if written else None
    controls = _controls(rows, entity, seed, rng, tell)
    by_relation = _by_relation(rows, odds, entity.layer, seed)
    watched = watch(context, input.texts, entity.probe, token.probe if token else None, input.tokens)
    clear = entity.low > max(controls.shuffled, *(each.auroc for each in entity.baselines))
    return Output(
        value=entity.auroc,
        low=entity.low,
        high=entity.high,
        chance=0.5,
        known=int((~rows.made_up).sum()),
        unknown=int(rows.made_up.sum()),
        left_out=len(asked) - len(found),
        entity=entity,
        token=token,
        relations=by_relation,
        watched=watched,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        pictures=draw(
            context,
            "hallucination_risk",
            input,
            entity=diagram(entity, "an entity's last token", controls),
            token=diagram(token, "a token being written", controls) if token else None,
            separation=separation(probability(odds), rows.made_up, controls),
            baselines=beside(entity, controls),
        ),
        verdict=verdict(entity, token, controls, clear),
    )


def _telling(context: Context, fits: int) -> Callable[[], None]:
    """To be called after each of so many fits: tells how many are done, and ends where nobody waits any more."""
    done = count(1)

    def tell() -> None:
        go_on()
        context.progress(next(done), fits)

    return tell


def _tried(
    context: Context, rows: Rows, seed: int, rng: np.random.Generator, what: str, tell: Callable[[], None]
) -> tuple[Risk, np.ndarray]:
    """The risk, and each row's log-odds by a probe that never saw its entity."""
    cuts = folds(rows.made_up, rows.groups, seed)
    odds = cross_fitted(rows.by_layer, rows.made_up, rows.groups, cuts, seed, tell)
    own = auroc_interval(odds[rows.made_up], odds[~rows.made_up], rng)
    final = fit(rows.by_layer, rows.made_up, rows.groups, seed)
    tell()
    p = probability(odds)
    bins = reliability(p, rows.made_up)
    baselines = []
    for label, columns in rows.baselines.items():
        other = simple(columns, rows.made_up, cuts)
        value = auroc(other[rows.made_up], other[~rows.made_up])
        baselines.append(
            Baseline(
                label=label,
                auroc=value,
                within=within(other, rows.made_up, rows.relation),
                beaten=own.low > value,
            )
        )
    risk = Risk(
        n=len(odds),
        sinks=rows.sinks,
        made_up=int(rows.made_up.sum()),
        auroc=own.value,
        low=own.low,
        high=own.high,
        within=within(odds, rows.made_up, rows.relation),
        calibration_error=calibration_error(bins),
        brier=float(np.square(p - rows.made_up).mean()),
        layer=final.layer,
        probe=_saved(context, final, what),
        bins=tuple(bins),
        baselines=tuple(baselines),
    )
    return risk, odds


def _saved(context: Context, found: Fitted, what: str) -> str:
    subject = context.subject
    direction = Direction(
        vector=torch.from_numpy(found.vector).float(),
        model=subject.name,
        hook=f"blocks.{found.layer}.hook_resid_pre",
        method=f"hallucination_risk, {what}",
        centre=found.centre,
        slope=found.slope,
    )
    return context.directions.save(direction)


def _controls(rows: Rows, entity: Risk, seed: int, rng: np.random.Generator, tell: Callable[[], None]) -> Controls:
    x = rows.by_layer[entity.layer]
    shuffled = []
    for _ in range(SHUFFLES):
        labels = rng.permutation(rows.made_up)
        odds = cross_fitted({entity.layer: x}, labels, rows.groups, folds(labels, rows.groups, seed), seed)
        shuffled.append(auroc(odds[labels], odds[~labels]))
        tell()
    cuts = folds(rows.made_up, rows.groups, seed)
    directions = (x @ rng.normal(size=(x.shape[1], RANDOMS))).T
    randoms = [simple(each[:, None], rows.made_up, cuts) for each in directions]
    by_name = {each.label: each.auroc for each in entity.baselines}
    return Controls(
        shuffled=float(np.mean(shuffled)),
        shuffled_farthest=max(shuffled, key=lambda value: abs(value - 0.5)),
        random_direction=float(np.median([auroc(odds[rows.made_up], odds[~rows.made_up]) for odds in randoms])),
        name_log_probability=by_name["the name's log-probability"],
        relation=by_name["the relation"],
    )


def _by_relation(rows: Rows, odds: np.ndarray, layer: int, seed: int) -> tuple[ByRelation, ...]:
    found = []
    for name in dict.fromkeys(rows.relation.tolist()):
        own = rows.relation == name
        labels, rest = rows.made_up[own], rows.made_up[~own]
        both = labels.any() and not labels.all()
        transfer = None
        if both and rest.any() and not rest.all():
            x = rows.by_layer[layer]
            scores = fit({layer: x[~own]}, rest, rows.groups[~own], seed).log_odds(x[own])
            transfer = auroc(scores[labels], scores[~labels])
        found.append(
            ByRelation(
                label=name,
                n=int(own.sum()),
                unknown=float(labels.mean()),
                auroc=auroc(odds[own][labels], odds[own][~labels]) if both else None,
                transfer=transfer,
            )
        )
    return tuple(found)
