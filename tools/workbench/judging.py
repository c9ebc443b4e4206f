"""Asking a judge about snippets, one a call, and turning its verdicts into an AUROC.

A verdict is the margin log p("1") - log p("0") of the first reply token: ranked, never thresholded, so a judge that
leans to one answer loses nothing. Where an endpoint sends no log-probabilities the answer itself is the verdict.
"""

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from prompts.ask import LLM, Answer
from prompts.errors import NoAnswer
from prompts.providers import Role
from store.activations import Harvest, Window
from store.types import Noun
from tools.workbench.context import Context
from tools.workbench.examples import Snippet, half_of, need_firings, spread
from tools.workbench.negatives import negatives
from tools.workbench.registry import ToolError, ToolInput
from tools.workbench.results import ScoreOutput, llm_failed
from tools.workbench.stats import auroc, auroc_interval

CANDIDATES = 5  # log-probabilities asked for: what every endpoint that sends any allows
LIST = 8  # snippets in one call of the list form
MIN_POSITIVES = 8  # firing windows a score needs
MIN_NEGATIVES = 8
CAPABLE_ITEMS, SMALL_ITEMS = 20, 12  # of each side, unless asked for: small judges run where a call takes a second
CHANCE = 0.5  # AUROC of a judge that knows nothing

_choosing = threading.Lock()  # one latent at a time is ready soonest, and its second scorer finds it done


class JudgeInput(ToolInput):
    """An explanation to score by a judge's verdicts on snippets that its author did not see."""

    latent: int
    text: str = Field(min_length=1, description="the explanation")
    shown_documents: tuple[int, ...] = Field((), description="documents the explanation was written from")
    floor_text: str | None = Field(None, description="another latent's explanation, scored on the same items")
    positives: int | None = Field(None, ge=MIN_POSITIVES, le=500, description="None: 20 for a capable judge, 12 else")
    negatives: int | None = Field(None, ge=MIN_NEGATIVES, le=500, description="None: as many as positives")
    batched: bool = Field(False, description="several snippets a call; only for judges marked capable")


class Item(Noun):
    """One snippet put to the judge, the truth, and its verdicts with the explanation and the floor's (None: unread),
    each with the id of the LLM call that brought it."""

    text: str
    positive: bool
    kind: str
    margin: float | None = None
    floor_margin: float | None = None
    call: str | None = None
    floor_call: str | None = None


class JudgeOutput(ScoreOutput):
    """The score, how many items of each kind it rests on, and every item with its verdict."""

    mix: dict[str, int]
    items: tuple[Item, ...]


class Verdicts(BaseModel):
    """The list form's reply."""

    verdicts: list[Annotated[int, Field(ge=0, le=1)]]


def how_many(context: Context, input: JudgeInput) -> tuple[int, int]:
    """How many positives and negatives to judge."""
    capable = context.llm is not None and context.llm.endpoints[Role.JUDGE].capable
    positives = input.positives or (CAPABLE_ITEMS if capable else SMALL_ITEMS)
    return positives, input.negatives or positives


def calls(input: JudgeInput, context: Context) -> int:
    """How many questions the judge is asked at most."""
    return sum(how_many(context, input)) * (1 if input.floor_text is None else 2)


def scored_windows(context: Context, input: JudgeInput) -> tuple[list[Snippet], list[tuple[str, Snippet]]]:
    """Snippets of the scoring half: where the latent fires, of every strength, and (kind, snippet) where it does not.

    Raises ToolError for a dead latent, one with too few windows, and when a document was shown to the explainer.
    """
    context.subject.check_latent(input.latent)
    harvest = context.need_harvest()
    need_firings(harvest, input.latent)
    with _choosing:
        positive, negative = _chosen(context, harvest, context.seed, input.latent, *how_many(context, input))
    windows = [snippet.window for snippet in (*positive, *(snippet for _, snippet in negative))]
    refuse_shown(harvest, windows, input.shown_documents)
    return positive, negative


@lru_cache(maxsize=16)
def _chosen(
    context: Context, harvest: Harvest, seed: int, latent: int, n_positive: int, n_negative: int
) -> tuple[list[Snippet], list[tuple[str, Snippet]]]:
    positive = spread(harvest, latent, n_positive, "score", context.rng("positives", latent))
    if len(positive) < MIN_POSITIVES:
        raise ToolError(
            f"Latent {latent} fires in {len(positive)} different windows of the scoring half, and a score needs "
            f"{MIN_POSITIVES}: harvest more text."
        )
    taken = [snippet.window for snippet in positive]
    rng = context.rng("negatives", latent)
    negative = negatives(context.subject, harvest, latent, n_negative, "score", rng, taken)
    if len(negative) < MIN_NEGATIVES:
        raise ToolError(
            f"Latent {latent} fires on so much text that only {len(negative)} windows without it were found, "
            f"and a score needs {MIN_NEGATIVES}: it is too dense to be told apart."
        )
    return positive, negative


def refuse_shown(harvest: Harvest, windows: Sequence[Window], shown: Sequence[int]) -> None:
    """Raises ToolError when a window is of the explaining half or of a document that was shown to the explainer."""
    documents = {window.document for window in windows}
    if overlap := sorted(documents & set(shown)):
        raise ToolError(
            f"The explanation was written from document {overlap[0]}, which belongs to the scoring half: a score on it "
            "would measure memory; explain from the explaining half."
        )
    if any(half_of(harvest, document) != "score" for document in documents):
        raise ValueError("a scorer was given windows of the explaining half")


async def judged(context: Context, input: JudgeInput, template: str, items: Sequence[Item], latent: str) -> JudgeOutput:
    """Puts every item to the judge, with the explanation and with the floor's, and scores both. Raises ToolError when
    one side is left without a verdict."""
    llm = context.need_llm()
    judge = llm.endpoints[Role.JUDGE]
    if input.batched and not judge.capable:
        raise ToolError(f"{judge.model} is not marked capable, and small judges answer lists by chance: drop batched.")
    rng = context.rng(template, input.latent)
    items = [items[index] for index in rng.permutation(len(items))]  # a stuck judge must not meet a pattern
    texts = [input.text] if input.floor_text is None else [input.text, input.floor_text]
    read = await asyncio.gather(*(_read(llm, template, text, items, input.batched) for text in texts))
    margins = [[verdict.margin for verdict in verdicts] for verdicts in read]
    positive, negative = _sides(items, margins[0])
    if not positive or not negative:
        raise llm_failed(judge.model, "readable verdict on one side of the items: name another judge.")
    interval = auroc_interval(positive, negative, context.rng("bootstrap"))
    floor_sides = _sides(items, margins[1]) if len(margins) > 1 else ([], [])
    floors = read[1] if len(read) > 1 else [Verdict(None, None)] * len(items)
    return JudgeOutput(
        latent=latent,
        judge=judge.model,
        **interval._asdict(),
        chance=CHANCE,
        floor=auroc(*floor_sides) if all(floor_sides) else None,
        n=len(positive) + len(negative),
        unparsed=margins[0].count(None),
        mix=dict(sorted(Counter(item.kind for item in items).items())),
        items=tuple(
            item.model_copy(
                update={"margin": own.margin, "call": own.call, "floor_margin": floor.margin, "floor_call": floor.call}
            )
            for item, own, floor in zip(items, read[0], floors, strict=True)
        ),
    )


def _sides(items: Sequence[Item], margins: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Margins of the positives and of the negatives, the unparsed left out."""
    known = [(item.positive, margin) for item, margin in zip(items, margins, strict=True) if margin is not None]
    return [m for positive, m in known if positive], [m for positive, m in known if not positive]


class Verdict(NamedTuple):
    """What a judge said of a snippet (None: nothing readable), and the call in which it did."""

    margin: float | None
    call: str | None


async def _read(llm: LLM, template: str, explanation: str, items: Sequence[Item], batched: bool) -> list[Verdict]:
    if batched:
        return await _listed(llm, template, explanation, items)
    values = [{"explanation": explanation, "snippet": item.text} for item in items]
    answers = await llm.ask_many(Role.JUDGE, template, values, top_logprobs=CANDIDATES, max_tokens=1)
    return [Verdict(margin(answer), answer.call_id if isinstance(answer, Answer) else None) for answer in answers]


async def _listed(llm: LLM, template: str, explanation: str, items: Sequence[Item]) -> list[Verdict]:
    """The list form: verdicts 0 and 1; a reply of the wrong length leaves all its snippets unparsed."""
    lists = [items[start : start + LIST] for start in range(0, len(items), LIST)]
    values = [{"explanation": explanation, "snippets": [item.text for item in part]} for part in lists]
    answers = await llm.ask_many(Role.JUDGE, f"{template}_list", values, schema=Verdicts)
    found: list[Verdict] = []
    for part, answer in zip(lists, answers, strict=True):
        parsed = None if isinstance(answer, NoAnswer) else answer.parsed
        if isinstance(answer, Answer) and isinstance(parsed, Verdicts) and len(parsed.verdicts) == len(part):
            found += [Verdict(float(each), answer.call_id) for each in parsed.verdicts]
        else:
            found += [Verdict(None, None)] * len(part)
    return found


def margin(answer: Answer | NoAnswer) -> float | None:
    """log p("1") - log p("0") of the reply's first token, in nats; 1 or -1 from the text where there are no
    log-probabilities; None when the reply is neither.

    A verdict that is not among the candidates sent counts as the least likely of them: it was no likelier.
    """
    if isinstance(answer, NoAnswer):
        return None
    if not answer.logprobs:
        return {"1": 1.0, "0": -1.0}.get(answer.text.strip()[:1])
    mass: dict[str, float] = {}
    for verdict in ("0", "1"):
        found = [lp for token, lp in answer.logprobs.items() if token.strip() == verdict]
        if found:
            mass[verdict] = float(np.logaddexp.reduce(found))
    if not mass:
        return None
    least = min(answer.logprobs.values())
    value = mass.get("1", least) - mass.get("0", least)
    return value if math.isfinite(value) else None
