"""What a model knows of entities, by its own answers: asked once, kept in the workspace, read by several tools."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from store.disk import appearing, make_folder
from store.ids import content_hash
from tools.probing.facts import Fact, Relation, filled, is_right, refuses
from tools.workbench.context import Context
from tools.workbench.labelled import check_counts
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolError
from tools.workbench.writing import ROWS, written

FOLDER = "knowledge"
VERSION = 1  # of how replies are made
EACH = 8  # entities that are known, and unknown


class Asked(NamedTuple):
    """An entity, the paraphrases of what is asked of it, and the model's reply to each, as token ids and as text."""

    relation: str
    fact: Fact
    prompts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    replies: tuple[str, ...] = ()

    @property
    def entity(self) -> str:
        return self.fact.entity

    @property
    def right(self) -> list[bool]:
        return [self.right_about(reply) for reply in self.replies]

    def right_about(self, reply: str) -> bool:
        """Whether a reply to what is asked of the entity is right."""
        return is_right(reply, self.fact.answers)

    @property
    def refused(self) -> list[bool]:
        return [refuses(reply) for reply in self.replies]

    @property
    def known(self) -> bool | None:
        """True: right in every paraphrase; False: wrong in all; None: neither."""
        return all(self.right) or (None if any(self.right) else False)


def ask(context: Context, relations: Sequence[Relation], chat: bool = False, tokens: int = 8) -> list[Asked]:
    """The model's likeliest reply of up to `tokens` tokens to each paraphrase about each entity: to its templates, or
    to the questions of a chat. Written at once with cached keys and values; a workspace keeps them."""
    asked = []
    for relation in relations:
        ways = relation.questions if chat else relation.templates
        if len(ways) < 2:
            raise ToolError(f"The relation {relation.name!r} has fewer than two questions: give paraphrases.")
        asked += [
            Asked(relation.name, fact, tuple(filled(way, fact.entity) for way in ways)) for fact in relation.facts
        ]
    return _answered(context, asked, chat, tokens)


def ask_once(context: Context, relations: Sequence[Relation], tokens: int) -> list[Asked]:
    """The model's likeliest reply to one question of a chat about each entity, its relation's questions in turn."""
    asked = []
    for relation in relations:
        if not relation.questions:
            raise ToolError(f"The relation {relation.name!r} has no questions: give one or more.")
        asked += [
            Asked(relation.name, fact, (filled(relation.questions[i % len(relation.questions)], fact.entity),))
            for i, fact in enumerate(relation.facts)
        ]
    return _answered(context, asked, True, tokens)


def _answered(context: Context, asked: Sequence[Asked], chat: bool, tokens: int) -> list[Asked]:
    kept = _kept(context, list(dict.fromkeys(prompt for each in asked for prompt in each.prompts)), chat, tokens)
    said = {prompt: context.subject.tokenizer.decode(ids) for prompt, ids in kept.items()}
    return [
        each._replace(
            tokens=tuple(tuple(kept[prompt]) for prompt in each.prompts),
            replies=tuple(said[prompt] for prompt in each.prompts),
        )
        for each in asked
    ]


def _kept(context: Context, texts: list[str], chat: bool, tokens: int) -> dict[str, list[int]]:
    """Replies by prompt: those of an earlier run of the same subject, and the rest now, kept as often as they come, so
    that what was done before a run was ended is not done again."""
    subject = context.subject
    folder = context.ledger.store.path.parent / FOLDER
    path = folder / f"{content_hash([VERSION, subject.fingerprint, chat, tokens])}.json"
    known: dict[str, list[int]] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    missing = sorted((text for text in texts if text not in known), key=len)  # those of like length together
    if missing:
        context.progress(0, len(missing))
    for start in range(0, len(missing), ROWS):
        part = missing[start : start + ROWS]
        replies = written(subject, encode(subject, part, chat, room=tokens), tokens)
        known |= dict(zip(part, replies, strict=True))
        make_folder(folder)
        with appearing(path) as unfinished:
            unfinished.write_text(json.dumps(known, ensure_ascii=False), "utf-8")
        context.progress(start + len(part), len(missing))
    return known


def needed(context: Context, relations: Sequence[Relation]) -> tuple[list[Asked], list[Asked]]:
    """All that were asked for, and those that are known or unknown. ToolError where these are too few, or hardly any of
    either."""
    asked = ask(context, relations)
    found = [each for each in asked if each.known is not None]
    known = np.array([each.known is True for each in found], bool)
    check_counts(known, ("known", "unknown"))
    if min(known.sum(), (~known).sum()) < EACH:
        raise ToolError(
            f"{context.subject.name} knows {known.sum()} of these entities and does not know {(~known).sum()}, and "
            f"{EACH} of each are needed: give more."
        )
    return asked, found
