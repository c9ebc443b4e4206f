"""Texts with a label, as probing tools take them: checked, cut to tokens, each with the place where it is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from store.types import Noun
from tools.workbench.activations import Case
from tools.workbench.context import Context
from tools.workbench.datasets import Dataset, dataset
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolError, ToolInput
from tools.workbench.splits import groups_of
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces

LEAST = 20  # texts in all
CHARACTERS = 4  # of a token, roughly
WORD = re.compile(r"[^\W\d_]{3}")  # three letters at least: 0 or A may stand in many a text
Text = Annotated[str, Field(min_length=1)]


class Example(Noun):
    """A text. target: words of it, read at their last token and told of by the surface baselines (None: the whole
    text). group: the entity or document that it is of, which is held out as a whole (None: the target, or the text as
    it is read)."""

    text: Text
    target: Text | None = None
    group: str | None = None


class Labelled(ToolInput):
    """Texts of two kinds, or the name of a labelled data set of which `n` are taken, half of each label.

    position: where a text without a target is read, or the mean over its tokens. labels: what the two kinds are called.
    """

    positive: tuple[Example | Text, ...] = ()
    negative: tuple[Example | Text, ...] = ()
    dataset: str | None = Field(None, description="of `glossator probe --list`, instead of texts")
    n: int = Field(400, ge=20, le=5000, description="texts taken of a data set")
    tokens: int = Field(128, ge=4, le=2048, description="of a data set's longer text the last so many are read")
    labels: tuple[str, str] = ("positive", "negative")
    position: Literal["mean"] | int = Field(-1, description="token to read, -1 the last, or the mean over tokens")
    chat: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (not self.positive and not self.negative):
            raise ValueError("give texts, positive and negative, or the name of a dataset")
        if self.dataset is not None and self.chat:
            raise ValueError("a data set's texts are read as they stand: leave chat out")
        return self


@dataclass(frozen=True, eq=False)
class Data:
    """n labelled texts: what is read of each, positive bool[n], groups int64[n]. labels: what the kinds are called.
    leaks: a sentence where a label's own word stands in texts of one kind alone."""

    texts: tuple[str, ...]
    cases: tuple[Case, ...]
    positive: np.ndarray
    groups: np.ndarray
    labels: tuple[str, str]
    leaks: str

    def kept(self, rows: np.ndarray) -> "Data":
        """The texts of bool[n]."""
        return Data(
            tuple(text for text, keep in zip(self.texts, rows, strict=True) if keep),
            tuple(case for case, keep in zip(self.cases, rows, strict=True) if keep),
            self.positive[rows],
            self.groups[rows],
            self.labels,
            self.leaks,
        )


def gather(context: Context, input: Labelled) -> Data:
    """The texts of an input. ToolError for one class, fewer than 20 texts, and a target that is not in its text."""
    subject = context.subject
    labels = input.labels
    if input.dataset:
        chosen = _drawn(context, input)
        labels = chosen.labels
        examples = [Example(text=text) for text in chosen.texts]
        positive = np.array(chosen.positive)
    else:
        given = [*input.positive, *input.negative]
        examples = [each if isinstance(each, Example) else Example(text=each) for each in given]
        positive = np.arange(len(examples)) < len(input.positive)
    check_counts(positive, labels)
    texts = tuple(example.text for example in examples)
    if input.dataset:
        ids = [[subject.bos, *own[-input.tokens :]] for own in subject.tokenize(list(texts))]
    else:
        ids = encode(subject, texts, input.chat)
    cases = tuple(_case(subject, own, each, input.position) for own, each in zip(ids, examples, strict=True))
    groups = groups_of(
        [example.group or example.target or str(own) for example, own in zip(examples, ids, strict=True)]
    )
    return Data(texts, cases, positive, groups, labels, leak(texts, positive, labels))


def texts_of(input: Labelled, context: Context) -> list[str]:
    """The texts as they are, for an estimate of what reading them takes."""
    if input.dataset:
        return [text[-CHARACTERS * input.tokens :] for text in _drawn(context, input).texts]
    return [each.text if isinstance(each, Example) else each for each in (*input.positive, *input.negative)]


def _drawn(context: Context, input: Labelled) -> Dataset:
    assert input.dataset is not None
    return dataset(input.dataset).balanced(input.n, context.rng("dataset", input.dataset, input.n))


def check_counts(positive: np.ndarray, labels: tuple[str, str]) -> None:
    """ToolError for one class alone, and for fewer than 20 texts."""
    n = int(positive.sum()), int((~positive).sum())
    if not all(n):
        raise ToolError(
            f"All {sum(n)} texts are {labels[0] if n[0] else labels[1]}: a probe needs texts of two kinds, give both."
        )
    if sum(n) < LEAST:
        raise ToolError(
            f"There are {n[0]} {labels[0]} and {n[1]} {labels[1]} texts, of which some must be held out: give at least "
            f"{LEAST}."
        )


def locate(subject: Subject, ids: Sequence[int], target: str) -> range:
    """The positions of the last occurrence of `target` in a text's tokens. ToolError when it is not there."""
    strings = pieces(subject, ids)
    strings[0] = ""
    text = "".join(strings)
    start = text.rfind(target)
    if start < 0:
        raise ToolError(f"{target!r} is not in its text {text!r}: write it as it stands there.")
    ends = np.cumsum([len(string) for string in strings])
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, start + len(target.rstrip()), side="left"))
    return range(first, last + 1)


def _case(subject: Subject, ids: Sequence[int], example: Example, position: Literal["mean"] | int) -> Case:
    whole = tuple(range(1, len(ids)))
    if not whole:
        raise ToolError("A text holds no token: give at least one word.")
    if example.target is not None:
        span = tuple(locate(subject, ids, example.target))
        return Case(tuple(ids), span[-1:], span)
    if position == "mean":
        return Case(tuple(ids), whole, whole)
    if not -len(ids) <= position < len(ids) or position % len(ids) == 0:
        raise ToolError(f"Position {position} is no token of a text of {len(ids)} tokens, BOS being 0.")
    return Case(tuple(ids), (position % len(ids),), whole)


def leak(texts: Sequence[str], positive: np.ndarray, labels: tuple[str, str]) -> str:
    """A sentence when a label that is a word stands in texts of one kind alone, so that reading it is reading the text;
    else ""."""
    for label in filter(WORD.search, labels):
        word = re.compile(rf"\b{re.escape(label)}\b", re.IGNORECASE)
        holds = np.array([bool(word.search(text)) for text in texts])
        own, others = int((holds & positive).sum()), int((holds & ~positive).sum())
        if (own == 0) != (others == 0):
            kind = labels[0] if own else labels[1]
            return f"the label {label!r} stands in {own + others} of the {kind} texts and in no other: it leaks"
    return ""
