"""What adding a known or an unknown latent at an entity does: to answers, to refusals, to the heads that read it."""

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from tools.probing.entity_edits import REPLY, TOKENS, Said, along, answered, extracting
from tools.probing.facts import AboutFacts
from tools.probing.knowledge import Asked, needed
from tools.probing.separation import firing, ranked, separations
from tools.workbench.causal import RANDOMS
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.stats import Interval, wilson
from tools.workbench.unembed import random_direction

OTHERS = 3
LICENCE = "A model that hardly ever refuses shows little of what these latents do to refusals elsewhere."


class Input(AboutFacts):
    """Which entities, how many known and unknown ones, the latents (by default the best of entity_knowledge), and how
    much of each is added: the length as a share of the residual stream's norm."""

    relations: tuple[str, ...] = Field(("city",), description="of the shipped facts")
    n: int = Field(16, ge=4, le=200, description="known entities, and as many unknown ones")
    known: tuple[Annotated[int, Field(ge=0)], ...] = Field((), max_length=16)
    unknown: tuple[Annotated[int, Field(ge=0)], ...] = Field((), max_length=16)
    strength: float = Field(0.5, gt=0, le=10)
    generated: bool = Field(True, description="add it to every generated token, too, and not to the entity alone")
    refusals: bool = Field(True, description="also ask as a user would, and count refusals")


class Share(ToolOutput):
    """Of n answers, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Side(ToolOutput):
    """Known or unknown entities under a condition: answers that are right, that are as without an edit, replies to
    questions that refuse (None: not asked), the attention of the extracting heads from the end to the entity, mean over
    heads and entities, and an example."""

    right: Share
    same: float
    refused: Share | None
    attention: float
    example: str


class Condition(ToolOutput):
    label: str
    known: Side
    unknown: Side


class Controls(ToolOutput):
    """Over random directions and other latents of the same length: the largest change of the share of known entities
    answered rightly and of refusals about them, and the range of changes of attention to known and unknown entities."""

    right: float
    refused: float
    attention_known_low: float
    attention_known_high: float
    attention_unknown_low: float
    attention_unknown_high: float


class Output(ToolOutput):
    """conditions: no edit, known and unknown latents, and the controls. heads: whose attention is watched. sinks:
    entities left out, whose last token is an attention sink."""

    latents_known: tuple[int, ...]
    latents_unknown: tuple[int, ...]
    heads: tuple[str, ...]
    length: float
    sinks: int
    conditions: tuple[Condition, ...]
    controls: Controls
    clear: bool
    licence: str
    pictures: tuple[str, ...]
    verdict: str


class Group(NamedTuple):
    known: list[Asked]
    unknown: list[Asked]


def estimate(input: Input, context: Context) -> float:
    """Seconds, with the answers that tell knowledge kept from earlier runs."""
    now = pace(context.subject)
    rows = 2 * input.n * (3 + RANDOMS + OTHERS)
    return now.writing(rows, 14, TOKENS) + input.refusals * now.writing(rows, 14 + CHAT, REPLY) + 60 * now.token * 20


@tool(version=2, estimate=estimate)
def steer_entity(input: Input, context: Context) -> Output:
    """Adds latents of known or unknown entities where an entity is read, and in what follows, and counts what changes.

    Told: right answers, refusals, and how much the heads that extract the attribute attend to the entity; beside random
    directions and other active latents of the same length. Source: Ferrando et al. 2411.14257, sections 4 and 5.
    """
    subject = context.subject
    subject.check_written()
    relations = input.chosen(context)
    _, asked = needed(context, relations)
    rng = context.rng("steer_entity", input.model_dump_json())
    one, found = firing(context, asked)
    scores = ranked(separations(one.activations > 0, one.known, one.kind), one.density)
    known, unknown = (
        given or (int(score.argmax()),) for given, score in zip((input.known, input.unknown), scores, strict=True)
    )
    for latent in (*known, *unknown):
        subject.check_latent(latent)
    groups = Group(*(_drawn([each for each in found if each.known is side], input.n, rng) for side in (True, False)))
    heads = extracting(context, groups.known)
    length = input.strength * subject.layer_norms[subject.layer_of(subject.hook)]
    active = [int(i) for i in (one.activations > 0).mean(0).argsort()[::-1] if one.density[i] <= 0.5]
    pool = [i for i in active[:200] if i not in (*known, *unknown) and (one.activations[:, i] > 0).any()]
    others = [int(i) for i in rng.choice(pool, min(OTHERS, len(pool)), replace=False)]
    decoder = subject.dictionary.decoder
    seeds = [int(seed) for seed in rng.integers(2**31, size=RANDOMS)]
    vectors: list[tuple[str, Tensor | None]] = [
        ("no edit", None),
        ("known latents", along(decoder[list(known)], length)),
        ("unknown latents", along(decoder[list(unknown)], length)),
        *((f"random direction {i}", length * random_direction(subject, seeds[i])) for i in range(RANDOMS)),
        *((f"latent {i}", along(decoder[[i]], length)) for i in others),
    ]
    questions = {relation.name: relation.questions for relation in relations} if input.refusals else {}
    said: list[tuple[Said, Said]] = []
    for done, (_, vector) in enumerate(vectors, 1):
        own, theirs = (answered(context, side, questions, vector, input.generated, heads) for side in groups)
        said.append((own, theirs))
        context.progress(done, len(vectors))
    plain = said[0]
    conditions = [
        Condition(
            label=label,
            known=_side(groups.known, own, plain[0]),
            unknown=_side(groups.unknown, theirs, plain[1]),
        )
        for (label, _), (own, theirs) in zip(vectors, said, strict=True)
    ]
    controls = _controls(conditions)
    base, _, less = conditions[:3]
    change = less.known.right.value - base.known.right.value
    clear = abs(change) > controls.right and less.known.right.high < base.known.right.low
    return Output(
        latents_known=known,
        latents_unknown=unknown,
        heads=tuple(f"L{layer}H{head}" for layer, head in heads),
        length=length,
        sinks=len(asked) - len(found),
        conditions=tuple(conditions),
        controls=controls,
        clear=clear,
        licence=LICENCE,
        pictures=draw(
            context,
            "steer_entity",
            input,
            right=_picture(conditions, "answers that are right", "share of entities"),
            attention=_picture(conditions, "attention of extracting heads", "attention from the end to the entity"),
        ),
        verdict=_verdict(known, unknown, heads, conditions, controls, clear),
    )


def _verdict(
    known: tuple[int, ...],
    unknown: tuple[int, ...],
    heads: list[tuple[int, int]],
    conditions: list[Condition],
    controls: Controls,
    clear: bool,
) -> str:
    base, more, less = conditions[:3]
    watched = ", ".join(f"L{layer}H{head}" for layer, head in heads)
    return (
        f"unknown latents {', '.join(map(str, unknown))} at known entities change the share answered rightly by "
        f"{less.known.right.value - base.known.right.value:+.2f}, from {base.known.right.value:.2f}; random directions "
        f"and other latents of the same length by at most {controls.right:.2f}: {'clear' if clear else 'not clear'} of "
        f"its controls. The attention of {watched} to them changes by "
        f"{less.known.attention - base.known.attention:+.3f} (controls {controls.attention_known_low:+.3f} to "
        f"{controls.attention_known_high:+.3f}), and to unknown entities with known latents "
        f"{', '.join(map(str, known))} by {more.unknown.attention - base.unknown.attention:+.3f} (controls "
        f"{controls.attention_unknown_low:+.3f} to {controls.attention_unknown_high:+.3f}). Refusals: unknown entities "
        f"{_refusing(base.unknown)}, with known latents {_refusing(more.unknown)}; known ones "
        f"{_refusing(base.known)}, with unknown latents {_refusing(less.known)}. {LICENCE}"
    )


def _drawn(found: list[Asked], n: int, rng: np.random.Generator) -> list[Asked]:
    return [found[i] for i in sorted(rng.permutation(len(found))[:n])]


def _side(group: list[Asked], said: Said, plain: Said) -> Side:
    right = [each.right_about(reply) for each, reply in zip(group, said.replies, strict=True)]
    refused = None if not said.refused else _share(sum(said.refused), len(said.refused))
    return Side(
        right=_share(sum(right), len(right)),
        same=float(np.mean([a == b for a, b in zip(said.replies, plain.replies, strict=True)])),
        refused=refused,
        attention=said.attention,
        example=f"{group[0].prompts[0]}{said.replies[0]}",
    )


def _share(hits: int, n: int) -> Share:
    found: Interval = wilson(hits, n)
    return Share(value=found.value, low=found.low, high=found.high, n=n)


def _controls(conditions: list[Condition]) -> Controls:
    base, rest = conditions[0].known, [condition.known for condition in conditions[3:]]
    refused = [abs(s.refused.value - base.refused.value) for s in rest if s.refused and base.refused]
    to_known = [side.attention - base.attention for side in rest]
    to_unknown = [each.unknown.attention - conditions[0].unknown.attention for each in conditions[3:]]
    return Controls(
        right=max(abs(side.right.value - base.right.value) for side in rest),
        refused=max(refused, default=0.0),
        attention_known_low=min(to_known),
        attention_known_high=max(to_known),
        attention_unknown_low=min(to_unknown),
        attention_unknown_high=max(to_unknown),
    )


def _refusing(side: Side) -> str:
    return "not asked for" if side.refused is None else f"{side.refused.value:.2f}"


def _picture(conditions: list[Condition], what: str, measure: str) -> Picture:
    bars = []
    for condition in conditions:
        beside = condition.label not in ("known latents", "unknown latents")
        for name, side in (("known", condition.known), ("unknown", condition.unknown)):
            label = f"{condition.label}, {name} entities"
            if measure == "share of entities":
                bars.append(Bar(label, side.right.value, side.right.low, side.right.high, beside))
            else:
                bars.append(Bar(label, side.attention, beside=beside))
    return Picture(f"Steering where an entity is read: {what}", Bars(tuple(bars)), measure)
