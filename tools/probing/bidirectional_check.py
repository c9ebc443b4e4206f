"""Whether a model that knows "A is B" also knows "B is A"."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.stats import binom

from tools.probing.facts import Prompt, filled, is_right, shipped
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.metrics import encode
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.stats import Interval, wilson
from tools.workbench.writing import replies

SHUFFLES = 200
NAMES = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]
N = 40  # pairs taken where none are given
SLACK = 0.1  # above exchanged answers: next to nothing


class Pair(ToolInput):
    """A and B, the first spelling of each stands in prompts and every one counts as an answer."""

    a: Annotated[NAMES, Field(min_length=1)]
    b: Annotated[NAMES, Field(min_length=1)]


class Input(ToolInput):
    """Pairs (by default countries and their capitals), and prompts each way, whose {entity} is A forwards and B
    backwards. known_only: backwards counts among pairs that are right forwards."""

    pairs: tuple[Pair, ...] = Field((), max_length=500)
    forward: tuple[Prompt, ...] = Field(("The capital of {entity} is the city of",), min_length=1, max_length=4)
    reverse: tuple[Prompt, ...] = Field(("{entity} is the capital city of",), min_length=1, max_length=4)
    chat: bool = False
    tokens: int = Field(8, ge=1, le=64)
    known_only: bool = True


class Way(ToolOutput):
    """One way: the share of answers that are right, mean over n pairs, with its 95 % interval over pairs: prompts about
    one pair are no more trials. exchanged: with answers exchanged among pairs."""

    n: int
    accuracy: float
    low: float
    high: float
    exchanged: float


class Answered(ToolOutput):
    """A pair and what was said each way, to the first prompt."""

    pair: str
    forward: str
    reverse: str
    forward_right: bool
    reverse_right: bool


class Output(ToolOutput):
    """gap: forward less backward. p: of so many more pairs that are known better forwards than backwards, were it as
    often the other way round (sign test over all pairs). reversal: it knows one way and next to nothing the other."""

    forward: Way
    reverse: Way
    gap: float
    p: float
    reversal: bool
    answers: tuple[Answered, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: every pair is asked each way."""
    rows = (len(input.pairs) or N) * (len(input.forward) + len(input.reverse))
    return pace(context.subject).writing(rows, 15 + CHAT * input.chat, input.tokens)


@tool(version=2, estimate=estimate)
def bidirectional_check(input: Input, context: Context) -> Output:
    """Asks for facts forwards and backwards: a model taught "A is B" often does not know "B is A".

    Answers exchanged among pairs say what guessing gets. A model that fails backwards may know it all the same where
    the backward prompt is bad: give several. Source: the reversal curse, Berglund et al. 2309.12288.
    """
    pairs = list(input.pairs) or _default(context)
    if len(pairs) < 2:
        raise ToolError("There is one pair: give two or more, or there is nothing to exchange answers with.")
    ways = {
        "forward": (input.forward, [pair.a[0] for pair in pairs], [pair.b for pair in pairs]),
        "reverse": (input.reverse, [pair.b[0] for pair in pairs], [pair.a for pair in pairs]),
    }
    said, right = {}, {}
    for done, (way, (prompts, entities, answers)) in enumerate(ways.items(), 1):
        texts = [filled(prompt, entity) for entity in entities for prompt in prompts]
        found = replies(context.subject, encode(context.subject, texts, input.chat, input.tokens), input.tokens)
        said[way] = np.array(found, object).reshape(len(pairs), len(prompts))
        right[way] = _right(said[way], answers)
        context.progress(done, 2)
    every = np.ones(len(pairs), bool)
    rows = np.asarray(right["forward"].all(1)) if input.known_only else every
    if not rows.any():
        raise ToolError(
            f"{context.subject.name} knows none of these {len(pairs)} pairs forwards, so that nothing can be said of "
            "the way back: give pairs that it knows, or better prompts."
        )
    rng = context.rng("bidirectional_check", input.model_dump_json())
    forward = _way(said["forward"], right["forward"], ways["forward"][2], every, rng)
    reverse = _way(said["reverse"], right["reverse"], ways["reverse"][2], rows, rng)
    one, other = (
        int((right[a].mean(1) > right[b].mean(1)).sum()) for a, b in (("forward", "reverse"), ("reverse", "forward"))
    )
    p = float(binom.sf(one - 1, one + other, 0.5))
    reversal = p < 0.05 and reverse.accuracy <= reverse.exchanged + SLACK
    verdict = (
        f"forwards {_told(forward)}; backwards{' of those pairs' if input.known_only else ''} {_told(reverse)}: "
        + (
            "it knows the facts one way and hardly the other"
            if reversal
            else "it knows less backwards than forwards"
            if p < 0.05
            else "no clear difference between the ways"
        )
        + f" (p {p:.2g} over all pairs)"
    )
    bars = Bars(
        tuple(
            bar
            for name, way in (("forwards", forward), ("backwards", reverse))
            for bar in (
                Bar(name, way.accuracy, way.low, way.high),
                Bar(f"{name}, answers exchanged", way.exchanged, beside=True),
            )
        )
    )
    picture = Picture(f"Facts asked for both ways, {len(pairs)} pairs", bars, "share of answers that are right")
    return Output(
        forward=forward,
        reverse=reverse,
        gap=forward.accuracy - reverse.accuracy,
        p=p,
        reversal=reversal,
        answers=tuple(
            Answered(
                pair=f"{pair.a[0]} / {pair.b[0]}",
                forward=str(said["forward"][i, 0]),
                reverse=str(said["reverse"][i, 0]),
                forward_right=bool(right["forward"][i, 0]),
                reverse_right=bool(right["reverse"][i, 0]),
            )
            for i, pair in enumerate(pairs)
        ),
        pictures=draw(context, "bidirectional_check", input, ways=picture),
        verdict=verdict,
    )


def _default(context: Context) -> list[Pair]:
    facts = shipped()["country"].facts
    drawn = context.rng("bidirectional_check").permutation(len(facts))[:N]
    return [Pair(a=(facts[i].entity,), b=facts[i].answers) for i in sorted(drawn)]


def _right(said: np.ndarray, answers: Sequence[Sequence[str]]) -> np.ndarray:
    """bool[pairs, prompts]"""
    return np.array([[is_right(reply, own) for reply in row] for row, own in zip(said, answers, strict=True)])


def _way(
    said: np.ndarray, right: np.ndarray, answers: Sequence[Sequence[str]], rows: np.ndarray, rng: np.random.Generator
) -> Way:
    share: Interval = wilson(float(right[rows].mean(1).sum()), int(rows.sum()))
    exchanged = []
    for _ in range(SHUFFLES):
        order = np.roll(np.arange(len(answers)), int(rng.integers(1, len(answers))))
        exchanged.append(_right(said[rows], [answers[i] for i in order[rows]]).mean())
    return Way(
        n=int(rows.sum()),
        accuracy=share.value,
        low=share.low,
        high=share.high,
        exchanged=float(np.mean(exchanged)),
    )


def _told(way: Way) -> str:
    return (
        f"{way.accuracy:.2f} [{way.low:.2f}, {way.high:.2f}] of {way.n} pairs (exchanged answers {way.exchanged:.2f})"
    )
