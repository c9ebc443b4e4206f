"""Answers while something is added where an entity is read, each prompt at its own places, and in generated tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tools.probing.facts import Spot, refuses, spot
from tools.probing.knowledge import Asked
from tools.probing.sources import by_source, first_token
from tools.workbench.context import Context
from tools.workbench.generation import generate
from tools.workbench.labelled import locate
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolError
from tools.workbench.sites import point
from tools.workbench.subject import Splice, Subject

TOKENS, REPLY = 8, 24  # written after a prompt, and in answer to a question
ROWS = 64
HEADS, FACTS = 5, 6  # that extract the attribute, and facts by which they are found


class Said(NamedTuple):
    """replies: to each entity's first paraphrase. refused: whether its question is refused, empty where none was asked.
    attention: of the watched heads from the end of the prompt to the entity, mean."""

    replies: list[str]
    refused: list[bool]
    attention: float


def along(rows: Tensor, length: float) -> Tensor:
    """[d_model]: the sum of directions [n, d_model], of this length."""
    whole = rows.float().sum(0)
    unit: Tensor = whole / whole.norm()
    return length * unit


def extracting(context: Context, known: Sequence[Asked]) -> list[tuple[int, int]]:
    """The heads that add most to known answers by reading the entity (see dla_by_source), as layer and head."""
    subject = context.subject
    if not known:
        raise ToolError("There is no known entity: give some that the model knows.")
    total = torch.zeros(subject.n_layers, subject.n_heads, dtype=torch.float64, device=subject.device)
    for each in known[:FACTS]:
        template = each.prompts[0].replace(each.entity, "{entity}")
        answer = first_token(subject, f" {each.fact.answers[0]}")
        total += by_source(subject, template, [each.entity], [answer]).groups[0, ..., 1]
    best = total.flatten().argsort(descending=True)[:HEADS].tolist()
    return [divmod(i, total.shape[1]) for i in best]


def answered(
    context: Context,
    group: Sequence[Asked],
    questions: dict[str, tuple[str, ...]],
    vector: Tensor | None,
    generated: bool,
    heads: Sequence[tuple[int, int]],
) -> Said:
    """What the model says of each entity, the vector [d_model] added at the dictionary's hook point (None: nothing).

    questions: by relation, also asked in a chat; empty: not asked.
    """
    subject = context.subject
    places = [spot(subject, each.prompts[0], each.entity) for each in group]
    attention: list[float] = []
    texts = steered(subject, places, TOKENS, vector, generated, heads, attention)
    refused: list[bool] = []
    if questions:
        prompts = [questions[each.relation][0].replace("{entity}", each.entity) for each in group]
        asked = []
        for ids, each in zip(encode(subject, prompts, chat=True, room=REPLY), group, strict=True):
            span = locate(subject, ids, each.entity)
            asked.append(Spot(ids, (span.start, span.stop - 1)))
        refused = [refuses(reply) for reply in steered(subject, asked, REPLY, vector, generated, (), [])]
    return Said(texts, refused, sum(attention) / len(attention) if attention else 0.0)


def steered(
    subject: Subject,
    places: Sequence[Spot],
    n: int,
    vector: Tensor | None,
    generated: bool,
    heads: Sequence[tuple[int, int]],
    attention: list[float],
) -> list[str]:
    """Up to n tokens after each prompt, the vector added at its entity; `attention` receives that of each watched head
    in each prompt, from its end to the entity."""
    found: dict[int, str] = {}
    order = sorted(range(len(places)), key=lambda i: len(places[i].tokens))
    for start in range(0, len(order), ROWS):
        rows = [places[i] for i in order[start : start + ROWS]]
        width = len(rows[-1].tokens)
        tokens = torch.full((len(rows), width), subject.bos)
        at_entity = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, place in enumerate(rows):
            tokens[row, : len(place.tokens)] = torch.tensor(place.tokens)
            at_entity[row, place.entity[0] : place.last + 1] = True
        lengths = [len(place.tokens) for place in rows]
        also: list[Splice] = [
            (point(subject, "pattern", layer), _look(heads, layer, at_entity, lengths, attention))
            for layer in sorted({layer for layer, _ in heads})
        ]
        if vector is not None:
            also.append((subject.hook, _add(vector, at_entity, generated)))
        text = generate(subject, tokens, n, lengths=lengths, also=also)[:, width:].tolist()
        for index, ids in zip(order[start : start + ROWS], text, strict=True):
            own = ids[: ids.index(subject.eos)] if subject.eos in ids else ids
            found[index] = subject.tokenizer.decode(own)
    return [found[i] for i in range(len(places))]


def _add(vector: Tensor, at_entity: Tensor, generated: bool) -> Callable[[Tensor], Tensor]:
    """Adds to the entity's tokens in the pass over prompts, and to each generated token in those that follow."""

    def change(value: Tensor) -> Tensor:
        own = vector.to(value)
        if value.shape[1] == at_entity.shape[1]:
            return value + at_entity.to(value.device)[..., None] * own
        return value + own if generated else value

    return change


def _look(
    heads: Sequence[tuple[int, int]], layer: int, at_entity: Tensor, lengths: Sequence[int], into: list[float]
) -> Callable[[Tensor], None]:
    """Notes the attention from each prompt's end to its entity, of this layer's heads; the pass over prompts alone."""
    own = [head for at, head in heads if at == layer]
    ends = torch.tensor(lengths) - 1

    def look(pattern: Tensor) -> None:
        if pattern.shape[2] == at_entity.shape[1]:
            read = pattern[torch.arange(len(ends)), :, ends.to(pattern.device)][:, own].float().cpu()
            into.extend((read * at_entity[:, None]).sum(-1).flatten().tolist())

    return look
