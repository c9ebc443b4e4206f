"""What a risk is fitted on: one row for each entity, or for each reply, with what needs no look inside beside it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.probing.facts import Spot, spot
from tools.probing.knowledge import Asked
from tools.workbench.activations import Case, read_activations
from tools.workbench.context import Context
from tools.workbench.labelled import check_counts
from tools.workbench.sites import At
from tools.workbench.splits import groups_of

WRITTEN = 4  # tokens of a reply, of which one is read


class Rows(NamedTuple):
    """by_layer: float[n, d], the residual stream entering each layer. made_up: bool[n]; groups: int64[n], the same for
    one entity. baselines: float[n, k] by name. sinks: so many more were left out, whose token carries none of the text
    at some layer."""

    by_layer: dict[int, np.ndarray]
    made_up: np.ndarray
    groups: np.ndarray
    relation: np.ndarray
    baselines: dict[str, np.ndarray]
    sinks: int = 0

    def kept(self, read: np.ndarray) -> "Rows":
        """Those for which bool[n] is true."""
        return Rows(
            {layer: x[read] for layer, x in self.by_layer.items()},
            self.made_up[read],
            self.groups[read],
            self.relation[read],
            {name: columns[read] for name, columns in self.baselines.items()},
            self.sinks + int((~read).sum()),
        )


def spots(context: Context, found: Sequence[Asked]) -> list[Spot]:
    """The first paraphrase about each entity, and where in it the entity is."""
    return [spot(context.subject, each.prompts[0], each.entity) for each in found]


def entities(context: Context, found: Sequence[Asked], layers: Sequence[int]) -> Rows:
    """A row an entity that is known or unknown: its last token in the first paraphrase."""
    places = spots(context, found)
    names = [Case(tuple(each.tokens), (each.last,), tuple(range(each.entity[0], each.last + 1))) for each in places]
    replies = [
        Case((*place.tokens, *each.tokens[0]), (len(place.tokens) - 1,), _span(place, each.tokens[0]))
        for place, each in zip(places, found, strict=True)
    ]
    values, surface, read = _read(context, names, layers)
    _, said, _ = _read(context, replies, ())
    relation = np.array([each.relation for each in found])
    kinds = _kinds(relation)
    rows = Rows(
        values,
        np.array([each.known is False for each in found]),
        groups_of([each.entity.lower() for each in found]),
        relation,
        {
            "the name's log-probability": np.column_stack([surface[:, 2], surface[:, 2] * surface[:, 0]]),
            "its number of tokens": surface[:, :1],
            "its tokens' rank in the vocabulary": surface[:, 1:2],
            "the relation": kinds,
            "all of these": np.column_stack([surface, kinds]),
            "the reply's own log-probability": said[:, 2:3],
        },
    ).kept(read)
    check_counts(~rows.made_up, ("known", "unknown"))
    return rows


def spoken(context: Context, asked: Sequence[Asked], layers: Sequence[int]) -> Rows:
    """A row an entity, its paraphrases in turn: the state from which one of the reply's first four tokens was written,
    these in turn, too; made up where the reply is wrong and does not refuse."""
    cases: list[Case] = []
    made_up: list[bool] = []
    names: list[str] = []
    relation: list[str] = []
    for number, each in enumerate(asked):
        way = number % len(each.prompts)
        tokens = each.tokens[way]
        if not tokens or each.refused[way]:
            continue
        ids = spot(context.subject, each.prompts[way], each.entity).tokens
        at = number // len(each.prompts) % min(WRITTEN, len(tokens))
        cases.append(Case((*ids, *tokens[: at + 1]), (len(ids) - 1 + at,), (len(ids) + at,)))
        made_up.append(not each.right[way])
        names.append(each.entity.lower())
        relation.append(each.relation)
    values, surface, read = _read(context, cases, layers)
    kinds = _kinds(np.array(relation))
    return Rows(
        values,
        np.array(made_up),
        groups_of(names),
        np.array(relation),
        {
            "the token's log-probability": surface[:, 2:3],
            "the relation": kinds,
            "both": np.column_stack([surface[:, 2:3], kinds]),
        },
    ).kept(read)


def _kinds(relation: np.ndarray) -> np.ndarray:
    """float64[n, relations]: 1 where a row is of a relation."""
    found: np.ndarray = (relation[:, None] == np.unique(relation)[None]).astype(float)
    return found


def _span(place: Spot, reply: tuple[int, ...]) -> tuple[int, ...]:
    """The reply's places; the prompt's last token where there is none."""
    return tuple(range(len(place.tokens), len(place.tokens) + len(reply))) or (len(place.tokens) - 1,)


def _read(
    context: Context, cases: Sequence[Case], layers: Sequence[int]
) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """The values of each layer, the surface, and which rows were read: the others are sinks and hold NaN."""
    sites: dict[int, At] = {layer: ("resid_pre", layer) for layer in layers}
    found = read_activations(context, cases, list(sites.values()), surface=True)
    assert found.surface is not None
    return {layer: found.values[site].astype(float) for layer, site in sites.items()}, found.surface, found.read
