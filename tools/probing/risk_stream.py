"""A text watched while it is written: each token's risk, known the moment the token is."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tools.probing.facts import spot
from tools.workbench.context import Context
from tools.workbench.directions import Direction
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolInput, ToolOutput
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces
from tools.workbench.writing import written


class Text(ToolInput):
    """A prompt that the model goes on from, and the entity it is about, if its own risk is wanted."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    entity: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    chat: bool = False


class Watched(ToolOutput):
    """A prompt, its entity's risk, and what the model wrote: the tokens of both, the first `given` the prompt's. As
    activations the probability that what is being said is made up: the entity's own at the entity, 0 at the rest of the
    prompt; scale: what is shaded fully."""

    prompt: str
    entity: str | None
    entity_risk: float | None
    given: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    scale: float = 1.0


def watch(context: Context, texts: tuple[Text, ...], entity: str, token: str | None, n: int) -> tuple[Watched, ...]:
    """Each text continued by up to n tokens. entity, token: names of the saved probes (None: an entity's alone)."""
    if not texts:
        return ()
    subject = context.subject
    at_entity = context.directions.load(entity)
    at_token = context.directions.load(token or entity)
    found = []
    for done, text in enumerate(texts, 1):
        risk = None if text.entity is None else entity_risk(subject, at_entity, text.prompt, text.entity)
        shown, risks = _given(subject, text, risk)
        (ids,) = encode(subject, [text.prompt], text.chat, room=n)
        own: list[float] = []
        tokens = risky(subject, at_token, ids, n, own.append)
        found.append(
            Watched(
                prompt=text.prompt,
                entity=text.entity,
                entity_risk=risk,
                given=len(shown),
                tokens=(*shown, *pieces(subject, tokens)),
                activations=(*risks, *own[: len(tokens)]),
            )
        )
        context.progress(done, len(texts))
    return tuple(found)


def _given(subject: Subject, text: Text, risk: float | None) -> tuple[list[str], list[float]]:
    """The prompt's tokens, and the entity's risk at each of its own; a line break between a question and its reply."""
    shown = pieces(subject, encode(subject, [text.prompt])[0][1:])
    risks = [0.0] * len(shown)
    if text.entity is not None and risk is not None:
        first, last = spot(subject, text.prompt, text.entity).entity
        risks[first - 1 : last] = [risk] * (last + 1 - first)
    return ([*shown, "\n"], [*risks, 0.0]) if text.chat else (shown, risks)


def entity_risk(subject: Subject, probe: Direction, prompt: str, entity: str) -> float:
    """The probability that what will be said of the entity, as it stands in the prompt, is made up."""
    place = spot(subject, prompt, entity)
    state = subject.value_at(probe.hook, torch.tensor([place.tokens[: place.last + 1]]))[0, -1]
    return float(_risk(probe, state))


def risky(subject: Subject, probe: Direction, prompt: list[int], n: int, tell: Callable[[float], object]) -> list[int]:
    """What the model writes after a prompt (token ids), up to n tokens. `tell` is called with each token's risk before
    the next one is computed."""

    def look(value: Tensor) -> None:
        tell(float(_risk(probe, value[0, -1])))

    return written(subject, [prompt], n, also=[(probe.hook, look)])[0]


def _risk(probe: Direction, state: Tensor) -> Tensor:
    projection = state.float() @ probe.vector.to(state.device)
    return torch.sigmoid(probe.slope * (projection - probe.centre))
