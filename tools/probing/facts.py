"""Facts that a model may know: entities of several types with what is true of each, and ways to ask for it.

`facts.json` holds, for each relation, prompts that end where the answer begins (templates), the same as questions, and
the entities by their answer, with other spellings of answers that count.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.labelled import locate
from tools.workbench.registry import ToolError, ToolInput
from tools.workbench.subject import Subject
from tools.workbench.words import says

FILE = Path(__file__).with_name("facts.json")
ENTITY = "{entity}"
REFUSAL = re.compile(
    r"\bi(?:'m| am)(?: \w+)? (?:not|unable)\b|\bi (?:do not|don't|cannot|can't|couldn't)\b|\bas an ai\b|\bsorry\b"
    r"|\b(?:not|no) (?:known|information)\b|\bunknown\b",
    re.IGNORECASE,
)

Prompt = Annotated[str, Field(min_length=1, max_length=500)]


class Fact(ToolInput):
    """An entity and the answers that count as right."""

    entity: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
    answers: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)]


class Relation(ToolInput):
    """A relation, two or more ways to ask for it, which hold {entity}, and its facts. questions: the same in a chat."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    templates: Annotated[tuple[Prompt, ...], Field(min_length=2, max_length=8)]
    questions: tuple[Prompt, ...] = Field((), max_length=8)
    facts: Annotated[tuple[Fact, ...], Field(min_length=1, max_length=2000)]


class AboutFacts(ToolInput):
    """Which facts a tool asks for."""

    relations: tuple[str, ...] = Field((), description="of the shipped facts; by default all")
    own: tuple[Relation, ...] = Field((), max_length=20, description="relations of your own")
    limit: int | None = Field(None, ge=10, description="facts of each relation, drawn at random; by default all")

    def chosen(self, context: Context) -> list[Relation]:
        """The relations with their facts, the same in every run of one seed. ToolError as of `chosen`."""
        return chosen(self.relations, self.own, self.limit, context.rng("facts"))


class Spot(NamedTuple):
    """A prompt as token ids, BOS in front, and where in it the entity ends."""

    tokens: list[int]
    entity: tuple[int, int]  # of its tokens, the first and the last

    @property
    def last(self) -> int:
        return self.entity[1]


@lru_cache(maxsize=1)
def shipped() -> dict[str, Relation]:
    """The relations of `facts.json` by name."""
    found = {}
    for name, raw in json.loads(FILE.read_text("utf-8")).items():
        facts = [
            Fact(
                entity=entity,
                answers=tuple(a for a in (answer, *raw["aliases"].get(answer, ())) if not says(entity, a)) or (answer,),
            )
            for answer, entities in raw["entities"].items()
            for entity in entities
        ]
        found[name] = Relation(
            name=name, templates=tuple(raw["templates"]), questions=tuple(raw["questions"]), facts=tuple(facts)
        )
    return found


def chosen(
    names: Sequence[str], own: Sequence[Relation], limit: int | None, rng: np.random.Generator
) -> list[Relation]:
    """The named relations (all that are shipped, where neither names nor own are given) and one's own, at most `limit`
    facts of each. ToolError for a name that there is not and for two relations of one name."""
    known = shipped()
    for name in names:
        if name not in known:
            raise ToolError(f"There are no facts about {name!r}: name one of {', '.join(known)}, or give your own.")
    relations = [known[name] for name in (names or ([] if own else known))] + list(own)
    if len({relation.name for relation in relations}) < len(relations):
        raise ToolError("Two relations have the same name: give each its own.")
    if limit is None:
        return relations
    return [
        relation.model_copy(
            update={"facts": tuple(relation.facts[i] for i in sorted(rng.permutation(len(relation.facts))[:limit]))}
        )
        for relation in relations
    ]


def filled(template: str, entity: str) -> str:
    """The template with the entity in it. ToolError where it has no place for one."""
    if ENTITY not in template:
        raise ToolError(f"The prompt {template!r} does not hold its entity: write {ENTITY} where it belongs.")
    return template.replace(ENTITY, entity)


def spot(subject: Subject, text: str, entity: str) -> Spot:
    """The text's tokens and those in which the entity's last mention lies. ToolError where the text lacks it."""
    ids = [subject.bos, *subject.tokenize([text])[0]]
    span = locate(subject, ids, entity)
    return Spot(ids, (span.start, span.stop - 1))


def is_right(reply: str, answers: Sequence[str]) -> bool:
    """Whether the reply's first line has one of the answers as whole words, accents and case aside."""
    line = _bare(reply.strip().partition("\n")[0])
    return any(says(line, _bare(answer)) for answer in answers)


def refuses(reply: str) -> bool:
    """Whether the reply says that its author does not know, or will not say."""
    return REFUSAL.search(reply.replace("\u2019", "'")) is not None


def _bare(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
