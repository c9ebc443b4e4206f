"""Which entities the model knows, by its own answers to paraphrases."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from tools.probing.facts import AboutFacts
from tools.probing.knowledge import Asked, ask
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.stats import wilson


class Input(AboutFacts):
    """Which relations, and how they are asked: by prompts that the model completes, or as a user's questions."""

    limit: int | None = Field(None, ge=1, description="facts of each relation, drawn at random; by default all")
    chat: bool = False
    tokens: int = Field(8, ge=1, le=64, description="of a reply")


class ByRelation(ToolOutput):
    """A relation's entities: known (right in every paraphrase) with the share's 95 % interval, unknown (wrong in all)
    and mixed; right: share of all answers; refused: of all answers; exchanged: share that would be called known had
    each been asked for another entity's answer."""

    label: str
    n: int
    known: int
    unknown: int
    mixed: int
    share: float
    low: float
    high: float
    right: float
    refused: float
    exchanged: float


class Entity(ToolOutput):
    """known: None for mixed. reply: to the first paraphrase."""

    relation: str
    entity: str
    known: bool | None
    right: int
    refused: int
    reply: str


class Controls(ToolOutput):
    """Shares of entities called known and unknown with answers exchanged within each relation."""

    known: float
    unknown: float


class Output(ToolOutput):
    entities: tuple[Entity, ...]
    relations: tuple[ByRelation, ...]
    known: int
    unknown: int
    mixed: int
    refused: int
    controls: Controls
    clear: bool
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds, were no answer kept from earlier runs."""
    relations = input.chosen(context)
    rows = sum(len(r.facts) * len(r.questions if input.chat else r.templates) for r in relations)
    return pace(context.subject).writing(rows, 14 + CHAT * input.chat, input.tokens)


@tool(version=1, estimate=estimate)
def label_knowledge(input: Input, context: Context) -> Output:
    """Asks the model for facts in several paraphrases: an entity is known if every answer is right, unknown if none is.

    What is neither is left out by the tools that read knowledge from inside. Refusals are counted. Exchanged answers
    say how often an entity would be called known by luck. Source: Ferrando et al. 2411.14257, section 3.
    """
    relations = input.chosen(context)
    asked = ask(context, relations, input.chat, input.tokens)
    rng = context.rng("label_knowledge", input.model_dump_json())
    groups: dict[str, list[Asked]] = {}
    for each in asked:
        groups.setdefault(each.relation, []).append(each)
    lucky = {name: _exchanged(own, rng) for name, own in groups.items()}
    told = tuple(_of(name, own, lucky[name]) for name, own in groups.items())
    known, unknown, mixed = (sum(getattr(r, name) for r in told) for name in ("known", "unknown", "mixed"))
    by_luck = [value for values in lucky.values() for value in values]
    controls = Controls(
        known=sum(value is True for value in by_luck) / len(by_luck),
        unknown=sum(value is False for value in by_luck) / len(by_luck),
    )
    share = wilson(known, len(asked))
    refused = sum(sum(each.refused) for each in asked)
    clear = share.low > controls.known
    verdict = (
        f"{context.subject.name} knows {known:,} of {len(asked):,} entities in every paraphrase (exchanged "
        f"answers {controls.known:.1%} instead of {share.value:.1%}), {unknown:,} in none, {mixed:,} in some; "
        f"{refused:,} answers refuse. "
        + "; ".join(f"{r.label} {r.known} of {r.n} (exchanged {r.exchanged:.1%})" for r in told)
    )
    bars = [
        bar
        for r in told
        for bar in (
            Bar(f"{r.label}, {r.n}", r.share, r.low, r.high),
            Bar(f"{r.label}, answers exchanged", r.exchanged, beside=True),
        )
    ]
    title = f"What {context.subject.name} knows in every paraphrase"
    picture = Picture(title, Bars(tuple(bars)), "share of entities", controls_said(controls))
    return Output(
        entities=tuple(
            Entity(
                relation=each.relation,
                entity=each.entity,
                known=each.known,
                right=sum(each.right),
                refused=sum(each.refused),
                reply=each.replies[0],
            )
            for each in asked
        ),
        relations=told,
        known=known,
        unknown=unknown,
        mixed=mixed,
        refused=refused,
        controls=controls,
        clear=clear,
        pictures=draw(context, "label_knowledge", input, known=picture),
        verdict=verdict,
    )


def _exchanged(own: Sequence[Asked], rng: np.random.Generator) -> list[bool | None]:
    """What each entity would be called, were it to be answered as another one of the relation is."""
    order = [own[i] for i in rng.permutation(len(own))]
    return [each._replace(fact=other.fact).known for each, other in zip(order, order[1:] + order[:1], strict=True)]


def _of(name: str, own: Sequence[Asked], lucky: Sequence[bool | None]) -> ByRelation:
    known = sum(each.known is True for each in own)
    unknown = sum(each.known is False for each in own)
    share = wilson(known, len(own))
    answers = sum(len(each.replies) for each in own)
    return ByRelation(
        label=name,
        n=len(own),
        known=known,
        unknown=unknown,
        mixed=len(own) - known - unknown,
        share=share.value,
        low=share.low,
        high=share.high,
        right=sum(sum(each.right) for each in own) / answers,
        refused=sum(sum(each.refused) for each in own) / answers,
        exchanged=sum(value is True for value in lucky) / len(own),
    )
