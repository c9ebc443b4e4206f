"""What heads add to an answer's logit by the group of tokens they read: BOS, the subject, the relation, the end."""

from typing import NamedTuple

import torch
from torch import Tensor

from tools.probing.facts import filled, spot
from tools.workbench.logit_parts import attribute
from tools.workbench.subject import Subject

GROUPS = ("BOS", "subject", "relation", "end")


class Sources(NamedTuple):
    """groups: float64[layers, heads, 4], logits. off: the most by which a head's sources miss its own effect."""

    groups: Tensor
    off: float


def by_source(subject: Subject, template: str, entity: str, up: int, down: int | None = None) -> Sources:
    """Of the answer `up` against `down` (tokens; None: against the mean over the vocabulary), after the template with
    this entity in it."""
    place = spot(subject, filled(template, entity), entity)
    against = None if down is None else torch.tensor([down])
    found = attribute(subject, torch.tensor([place.tokens]), torch.tensor([up]), against)
    sources, heads = found.written.sources[0], found.written.heads[0]
    first, last = place.entity
    bos, about, end = sources[..., 0], sources[..., first : last + 1].sum(-1), sources[..., -1]
    whole = sources.sum(-1)
    return Sources(torch.stack([bos, about, whole - bos - about - end, end], -1), float((whole - heads).abs().max()))


def first_token(subject: Subject, answer: str) -> int:
    """Of an answer with its leading space."""
    return subject.tokenize([answer])[0][0]
