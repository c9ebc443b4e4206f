"""What heads add to an answer's logit by the group of tokens they read: BOS, the subject, the relation, the end."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tools.probing.facts import filled, spot
from tools.workbench.logit_parts import attribute
from tools.workbench.subject import Subject

GROUPS = ("BOS", "subject", "relation", "end")


class Sources(NamedTuple):
    """groups: float64[n, layers, heads, 4], logits. off: the most by which a head's sources miss its own effect."""

    groups: Tensor
    off: float


def by_source(
    subject: Subject, template: str, entities: Sequence[str], up: Sequence[int], down: Sequence[int] | None = None
) -> Sources:
    """Of each answer `up` against `down` (tokens; None: against the mean over the vocabulary), after the template with
    each entity in it; prompts of equal length are read together."""
    places = [spot(subject, filled(template, entity), entity) for entity in entities]
    lengths: dict[int, list[int]] = defaultdict(list)
    for row, place in enumerate(places):
        lengths[len(place.tokens)].append(row)
    found: dict[int, Tensor] = {}
    off = 0.0
    for rows in lengths.values():
        tokens = torch.tensor([places[row].tokens for row in rows])
        against = None if down is None else torch.tensor([down[row] for row in rows])
        written = attribute(subject, tokens, torch.tensor([up[row] for row in rows]), against).written
        off = max(off, float((written.sources.sum(-1) - written.heads).abs().max()))
        for row, sources in zip(rows, written.sources, strict=True):
            first, last = places[row].entity
            bos, about, end = sources[..., 0], sources[..., first : last + 1].sum(-1), sources[..., -1]
            found[row] = torch.stack([bos, about, sources.sum(-1) - bos - about - end, end], -1)
    return Sources(torch.stack([found[row] for row in range(len(places))]), off)


def first_token(subject: Subject, answer: str) -> int:
    """Of an answer with its leading space."""
    return subject.tokenize([answer])[0][0]
