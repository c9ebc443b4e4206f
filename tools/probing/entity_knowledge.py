"""Latents that tell whether the model knows an entity."""

import numpy as np
from pydantic import Field

from tools.probing.facts import AboutFacts
from tools.probing.knowledge import needed
from tools.probing.risk import within
from tools.probing.separation import DENSE, Firing, firing, kinds, permuted, ranked, separations
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.estimators import logistic
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.splits import groups_of, held_out
from tools.workbench.stats import auroc, auroc_interval

PERMUTATIONS = 200
HELD_OUT = 0.5  # of the entities
CERTAIN = 0.99  # of permutations that a latent's score lies above
LICENCE = "A latent that separates is no cause: steer_entity says what adding it does."


class Input(AboutFacts):
    """What is asked of which entities, and how many latents are told each way."""

    n: int = Field(5, ge=1, le=50)


class ByType(ToolOutput):
    """How often a latent fires on known and on unknown entities of a type."""

    label: str
    known: float
    unknown: float


class Latent(ToolOutput):
    """A latent chosen on half of the entities by `score`, the least over types of how much more often it fires on the
    known (or unknown) ones. auroc with its 95 % interval and within: on the other half, all types, and pairs of one
    type. p: share of permutations with a score as high for any latent. density: of general text."""

    latent: int
    score: float
    p: float
    auroc: float
    low: float
    high: float
    within: float
    density: float
    types: tuple[ByType, ...]


class Controls(ToolOutput):
    """permuted_known, permuted_unknown: the score that 99 % of permutations do not reach with their best latent;
    residual: AUROC of a logistic probe of the same hook point, on the other half; within: of pairs of one type."""

    permuted_known: float
    permuted_unknown: float
    residual: float
    residual_within: float


class Output(ToolOutput):
    """known, unknown: the latents that fire on either, the best first; dropped: so many fire on more than 2 % of
    general text. sinks: entities left out, whose last token is an attention sink."""

    entities: int
    sinks: int
    known_entities: int
    types: tuple[str, ...]
    known: tuple[Latent, ...]
    unknown: tuple[Latent, ...]
    dropped: int
    general_text: str
    controls: Controls
    clear: bool
    licence: str
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds, were no answer kept from earlier runs."""
    facts = sum(len(r.facts) for r in input.chosen(context))
    now = pace(context.subject)
    return now.writing(3 * facts, 14, 8) + now.token * 14 * facts + 10


@tool(version=2, estimate=estimate)
def entity_knowledge(input: Input, context: Context) -> Output:
    """Finds latents that fire at the last token of entities that the model knows, or of those that it does not.

    Ranked by the least separation over types of entity, against labels exchanged at random; those that fire on more
    than 2 % of general text are dropped. Beside them a probe of the whole residual stream. Source: Ferrando et al.
    2411.14257.
    """
    _, asked = needed(context, input.chosen(context))
    one, found = firing(context, asked)
    sinks = len(asked) - len(found)
    rng = context.rng("entity_knowledge", input.model_dump_json())
    test_rows = held_out(one.known, groups_of([each.entity.lower() for each in found]), rng, HELD_OUT)
    train, test = _part(one, ~test_rows), _part(one, test_rows)
    fires = train.activations > 0
    separation = separations(fires, train.known, train.kind)
    scores = ranked(separation, one.density)
    by_chance = permuted(train, rng, PERMUTATIONS)
    sides = []
    for at, score in enumerate(scores):
        best = score.argsort()[::-1][: input.n].tolist()
        sides.append(tuple(_latent(i, float(score[i]), by_chance[:, at], test, at == 0, rng) for i in best))
    residual, residual_within = _residual(train, test)
    bars = np.quantile(by_chance, CERTAIN, axis=0)
    controls = Controls(
        permuted_known=float(bars[0]),
        permuted_unknown=float(bars[1]),
        residual=residual,
        residual_within=residual_within,
    )
    known, unknown = sides
    clear = known[0].score > bars[0] or unknown[0].score > bars[1]
    verdict = "; ".join(
        _told(name, own[0], bar, len(separation))
        for name, own, bar in (("known", known, bars[0]), ("unknown", unknown, bars[1]))
    )
    verdict += f"; a probe of the residual stream there {residual:.2f}, within a type {residual_within:.2f}"
    verdict += f"; {sinks} entities left out as sinks. {LICENCE}" if sinks else f". {LICENCE}"
    return Output(
        entities=len(found),
        sinks=sinks,
        known_entities=int(one.known.sum()),
        types=tuple(kinds(one.known, one.kind)),
        known=known,
        unknown=unknown,
        dropped=int((one.density > DENSE).sum()),
        general_text=one.text,
        controls=controls,
        clear=bool(clear),
        licence=LICENCE,
        pictures=draw(
            context,
            "entity_knowledge",
            input,
            scores=_best(known, unknown, controls),
            types=_by_type(known[0], unknown[0], controls),
        ),
        verdict=verdict,
    )


def _told(name: str, best: Latent, bar: float, types: int) -> str:
    """Whether a latent fires on entities that are known, or unknown, in every type."""
    if best.score <= bar:
        return (
            f"no latent tells {name} entities in all of {types} types by more than permuted labels ({best.latent} by "
            f"{best.score:.2f}, p {best.p:.2g}; permuted {bar:.2f})"
        )
    return (
        f"latent {best.latent} fires on {name} entities, more often by {best.score:.2f} in each of {types} types (p "
        f"{best.p:.2g}; permuted labels {bar:.2f}), AUROC on other entities {best.auroc:.2f} [{best.low:.2f}, "
        f"{best.high:.2f}], within a type {best.within:.2f}"
    )


def _part(one: Firing, rows: np.ndarray) -> Firing:
    return one._replace(
        activations=one.activations[rows], residual=one.residual[rows], known=one.known[rows], kind=one.kind[rows]
    )


def _latent(
    index: int, score: float, by_chance: np.ndarray, test: Firing, is_known: bool, rng: np.random.Generator
) -> Latent:
    own = test.activations[:, index]
    positive = test.known if is_known else ~test.known
    value = auroc_interval(own[positive], own[~positive], rng)
    types = [
        ByType(
            label=each,
            known=float((own[(test.kind == each) & test.known] > 0).mean()),
            unknown=float((own[(test.kind == each) & ~test.known] > 0).mean()),
        )
        for each in kinds(test.known, test.kind)
    ]
    return Latent(
        latent=index,
        score=score,
        p=float((1 + (by_chance >= score).sum()) / (1 + len(by_chance))),
        auroc=value.value,
        low=value.low,
        high=value.high,
        within=within(own, positive, test.kind),
        density=float(test.density[index]),
        types=tuple(types),
    )


def _residual(train: Firing, test: Firing) -> tuple[float, float]:
    """AUROC of a logistic probe of the residual stream, over all pairs and over those of one type."""
    vector = logistic(train.residual.astype(float), train.known).vector
    scores = test.residual @ vector
    return auroc(scores[test.known], scores[~test.known]), within(scores, test.known, test.kind)


def _best(known: tuple[Latent, ...], unknown: tuple[Latent, ...], controls: Controls) -> Picture:
    bars = [
        bar
        for name, own, by_chance in (
            ("known", known, controls.permuted_known),
            ("unknown", unknown, controls.permuted_unknown),
        )
        for bar in (
            *(Bar(f"latent {each.latent}, on {name}", each.score) for each in own if each.score > 0),
            Bar(f"any latent on {name}, 99 % of permutations", by_chance, beside=True),
        )
    ]
    return Picture(
        "How much more often latents fire on known, or on unknown, entities, in the type where they do least",
        Bars(tuple(bars)),
        "difference of the share of entities",
        controls_said(controls),
    )


def _by_type(known: Latent, unknown: Latent, controls: Controls) -> Picture:
    bars = [
        Bar(f"{latent.latent}, {each.label}: {name}", share, beside=name == other)
        for latent, own, other in ((known, "known", "unknown"), (unknown, "unknown", "known"))
        for each in latent.types
        for name, share in ((own, getattr(each, own)), (other, getattr(each, other)))
    ]
    return Picture(
        f"How often latents {known.latent} and {unknown.latent} fire, on entities that they were not chosen on",
        Bars(tuple(bars)),
        "share of entities",
        controls_said(controls),
    )
