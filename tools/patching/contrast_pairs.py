"""Pairs of prompts that differ in the supposed cause alone: what a behaviour is localised with."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from tools.workbench.causal import interval, told
from tools.workbench.context import Context
from tools.workbench.metrics import Reader
from tools.workbench.pairs import Aligned, Contrast, Dropped, aligned, batch, measure
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.stats import wilson
from tools.workbench.subject import Subject
from tools.workbench.templates import BOTH_RIGHT


class Input(Contrast):
    """A template's name and how many pairs, or the pairs themselves."""


class PairReading(ToolOutput):
    """A pair as it is used, and the logit difference between the answer and the other after each prompt. roles: names
    of positions; note: what was done about an answer of several tokens."""

    clean: str
    corrupted: str
    answer: str
    other: str
    on_clean: float
    on_corrupted: float
    differs_at: tuple[int, ...]
    roles: dict[str, int]
    note: str | None


class Output(ToolOutput):
    """The pairs that can be used, those dropped and why. clean, corrupted: mean logit difference after each prompt; gap
    between them with its 95 % interval (Student's t over pairs; None for one). right_on_clean, right_on_corrupted:
    shares of the prompts after which the model prefers the answer that they call for; chance is one half (of
    greater_than the corrupted prompts call for neither answer more than for the other). comparable:
    how many pairs have one length and differ at the same positions."""

    pairs: tuple[PairReading, ...]
    dropped: tuple[Dropped, ...]
    clean: float
    corrupted: float
    gap: float
    low: float | None
    high: float | None
    right_on_clean: float
    right_on_corrupted: float
    chance: float = 0.5
    comparable: int = Field(description="pairs whose positions mean the same")
    verdict: str


@tool(version=3)
def contrast_pairs(input: Input, context: Context) -> Output:
    """Makes clean and corrupted prompts and checks that the model does on them what is to be localised.

    Templates: ioi (which of two names), greater_than, capital, agreement, pronoun, days, months, induction; or your own
    pairs. Prompts of a pair have as many tokens and differ by replaced tokens alone, their answers differ in one token.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    kept = [pair for group in pairs.groups() for pair in group]
    clean, corrupted = np.concatenate([_measured(context, group) for group in pairs.groups()], axis=1)
    gap = clean - corrupted
    low, high = interval(gap)
    n = len(gap)
    right = wilson(int((clean > 0).sum()), n), wilson(int((corrupted < 0).sum()), n)
    either = input.template in BOTH_RIGHT
    there = low is not None and low > 0 and min(each.value for each in right[: 1 if either else 2]) > 0.5
    comparable = len(pairs.same_places(subject).kept)
    readings = [_reading(subject, pair, *map(float, each)) for pair, *each in zip(kept, clean, corrupted, strict=True)]
    verdict = (
        f"{n} pairs, {len(pairs.dropped)} dropped: the logit difference is {clean.mean():+z.3g} on clean and "
        f"{corrupted.mean():+z.3g} on corrupted prompts, a gap of {told(float(gap.mean()), low, high)}; the model "
        + (
            f"prefers the right answer on {right[0].value:.2f} of the clean ones (chance 0.50) and the other on "
            f"{right[1].value:.2f} of the corrupted, after which both are right: "
            if either
            else f"prefers the right answer on {right[0].value:.2f} and {right[1].value:.2f} of them (chance 0.50): "
        )
        + ("the behaviour is there to be localised" if there else "too weak or too few to localise")
        + "".join(f". {note}" for note in pairs.notes)
    )
    return Output(
        pairs=tuple(readings),
        dropped=pairs.dropped,
        clean=float(clean.mean()),
        corrupted=float(corrupted.mean()),
        gap=float(gap.mean()),
        low=low,
        high=high,
        right_on_clean=right[0].value,
        right_on_corrupted=right[1].value,
        comparable=comparable,
        verdict=verdict,
    )


def _reading(subject: Subject, pair: Aligned, on_clean: float, on_corrupted: float) -> PairReading:
    answer, other = subject.token_strings([pair.answer, pair.other])
    return PairReading(
        clean="".join(subject.token_strings(pair.clean[1:])),
        corrupted="".join(subject.token_strings(pair.corrupted[1:])),
        answer=answer,
        other=other,
        on_clean=on_clean,
        on_corrupted=on_corrupted,
        differs_at=pair.places,
        roles=dict(pair.roles),
        note=pair.note,
    )


def _measured(context: Context, pairs: Sequence[Aligned]) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] each: the logit difference after the clean and the corrupted prompt of pairs of one length."""
    subject, own = context.subject, batch(pairs)
    reader = Reader(context, measure(subject, pairs, "logit_difference"), own.answer, own.other)
    each = range(len(pairs))
    clean, corrupted = (
        reader.read(tokens, subject.logits(tokens, last=reader.last_alone), each).cpu().numpy()
        for tokens in (own.clean, own.corrupted)
    )
    return clean, corrupted
