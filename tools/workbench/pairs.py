"""Clean and corrupted prompts as data: token-aligned, their answers single tokens, and which were dropped and why.

How to use it: a tool's input inherits `Contrast`; `aligned(subject, input, seed)` gives the `Pairs`, `measure` the
metric on them. Patch those of `pairs.same_places(subject)` where positions are compared, else each of `pairs.groups()`.
A `Batch`, of `batch(group)`, is what `tools.workbench.patching` and anything with gradients takes: clean and corrupted
int64[n, s] with BOS, and the tokens int64[n] of the answer that the clean prompt calls for and of the other's.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from store.types import Noun
from tools.workbench.metrics import Metric
from tools.workbench.registry import ToolError, ToolInput, ToolOutput
from tools.workbench.subject import Subject
from tools.workbench.templates import Template, candidates

MOST = 64  # pairs
COARSE = "The model runs in 16 bits, which round logits by more than most parts move them: use --dtype float32."
TRIED = 8  # candidates of a template for each pair wanted

Measured = Literal["logit_difference", "log_probability", "kl", "probability", "latent"]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class ContrastPair(Noun):
    """Two prompts that differ in the supposed cause alone, and what the model should say after each.

    roles: names of tokens of the clean prompt, each by the number of characters up to its end.
    """

    clean: Text
    corrupted: Text
    answer: Text = Field(description="what follows the clean prompt, with its leading space")
    other: Text = Field(description="what follows the corrupted prompt, with its leading space")
    roles: dict[str, int] = Field({})


class Contrast(ToolInput):
    """Where the pairs come from: a template, or the caller's own."""

    template: Template | None = None
    n: int = Field(8, ge=1, le=MOST, description="pairs to take from the template")
    pairs: tuple[ContrastPair, ...] = Field((), max_length=MOST)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template is None) == (not self.pairs):
            raise ValueError("name a template or give pairs, not both")
        return self


@dataclass(frozen=True)
class Aligned:
    """A pair in tokens, BOS in front. answer, other: one token each. note: what was done to answers of several."""

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: int
    other: int
    roles: tuple[tuple[str, int], ...] = ()
    note: str | None = None

    @property
    def places(self) -> tuple[int, ...]:
        """The positions at which the prompts differ."""
        return tuple(i for i, (a, b) in enumerate(zip(self.clean, self.corrupted, strict=True)) if a != b)


class Dropped(ToolOutput):
    """A pair that cannot be used, and why."""

    clean: str
    corrupted: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """n pairs of s tokens. clean, corrupted: int64[n, s]; answer, other: int64[n]; first: the first position at which
    any pair differs; roles: what the first pair calls its tokens."""

    clean: Tensor
    corrupted: Tensor
    answer: Tensor
    other: Tensor
    first: int
    roles: dict[int, str]


@dataclass(frozen=True)
class Pairs:
    """The pairs that can be used and those that cannot."""

    kept: tuple[Aligned, ...]
    dropped: tuple[Dropped, ...] = ()
    caution: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the numbers, and what was done to answers of several tokens: of the first pair, and of how many
        others."""
        noted = [pair.note for pair in self.kept if pair.note]
        others = sum(note != noted[0] for note in noted)
        told = noted[:1] if not others else [f"{noted[0]}; likewise for {others} other pairs"]
        return tuple(note for note in (self.caution, *told) if note)

    def groups(self) -> list[list[Aligned]]:
        """The pairs by length, so that none is padded."""
        lengths: defaultdict[int, list[Aligned]] = defaultdict(list)
        for pair in self.kept:
            lengths[len(pair.clean)].append(pair)
        return list(lengths.values())

    def same_places(self, subject: Subject) -> Self:
        """Those whose positions mean the same: the largest group of one length that differs at the same places."""
        groups: defaultdict[tuple[int, tuple[int, ...]], list[Aligned]] = defaultdict(list)
        for pair in self.kept:
            groups[len(pair.clean), pair.places].append(pair)
        best = max(groups.values(), key=len)
        said = f"{len(best[0].clean)} tokens that differ at {', '.join(map(str, best[0].places))}"
        others = [
            Dropped(
                clean=_text(subject, pair.clean),
                corrupted=_text(subject, pair.corrupted),
                reason=f"its positions cannot be compared with those of most pairs ({said})",
            )
            for pair in self.kept
            if pair not in best
        ]
        return replace(self, kept=tuple(best), dropped=(*self.dropped, *others))


def batch(members: Sequence[Aligned]) -> Batch:
    """Pairs of one length as tensors."""
    return Batch(
        clean=torch.tensor([pair.clean for pair in members]),
        corrupted=torch.tensor([pair.corrupted for pair in members]),
        answer=torch.tensor([pair.answer for pair in members]),
        other=torch.tensor([pair.other for pair in members]),
        first=min(pair.places[0] for pair in members),
        roles={position: role for role, position in members[0].roles},
    )


def aligned(subject: Subject, contrast: Contrast, seed: int = 0) -> Pairs:
    """The contrast's pairs in this subject's tokens. ToolError, with a reason, when none can be used."""
    if contrast.template is None:
        found = align(subject, contrast.pairs)
    else:
        made = (ContrastPair(**each._asdict()) for each in candidates(contrast.template, seed, TRIED * contrast.n))
        found = align(subject, made, contrast.n)
    if not found.kept:
        raise ToolError(f"No pair can be used; the first because {found.dropped[0].reason}. Give others.")
    return found if subject.dtype == torch.float32 else replace(found, caution=COARSE)


def measure(subject: Subject, pairs: Sequence[Aligned], what: Measured, latent: int | None = None) -> Metric:
    """The metric on these pairs. logit_difference: the answer's logit minus the other's; log_probability and
    probability: of the answer; kl: of the next token from the clean prompt's, nats; latent: its mean activation."""
    if (latent is None) == (what == "latent"):
        raise ToolError("The metric latent takes a latent, and no other does: name one, or leave it out.")
    answers = tuple(subject.token_strings([pair.answer for pair in pairs]))
    others = tuple(subject.token_strings([pair.other for pair in pairs]))
    match what:
        case "logit_difference":
            return Metric(kind="answer_difference", answers=answers, down=others)
        case "log_probability":
            return Metric(kind="answer", answers=answers)
        case "probability":
            return Metric(kind="answer_probability", answers=answers)
        case "kl":
            return Metric(kind="kl")
        case _:
            return Metric(kind="latent", latent=latent)


def align(subject: Subject, pairs: Iterable[ContrastPair], wanted: int | None = None) -> Pairs:
    """The pairs in tokens, until `wanted` are found."""
    kept: list[Aligned] = []
    dropped: list[Dropped] = []
    for pair in pairs:
        try:
            kept.append(_align(subject, pair))
        except ValueError as reason:
            dropped.append(Dropped(clean=pair.clean, corrupted=pair.corrupted, reason=str(reason)))
        if len(kept) == wanted:
            break
    return Pairs(tuple(kept), tuple(dropped))


def _align(subject: Subject, pair: ContrastPair) -> Aligned:
    """ValueError, with the reason, when the pair cannot be used."""
    clean, corrupted, answer, other = subject.tokenize([pair.clean, pair.corrupted, pair.answer, pair.other])
    if clean == corrupted:
        raise ValueError("clean and corrupted are the same tokens")
    if len(clean) != len(corrupted):
        raise ValueError(f"clean has {len(clean)} tokens and corrupted {len(corrupted)}")
    same = sum(a == b for a, b in zip(clean, corrupted, strict=True))
    if _in_common(clean, corrupted) > same:
        raise ValueError("the tokens that clean and corrupted share stand at other positions")
    first = next((i for i, (a, b) in enumerate(zip(answer, other, strict=False)) if a != b), None)
    if first is None:
        raise ValueError(f"the answers {pair.answer!r} and {pair.other!r} are the same, or one begins with the other")
    note = None
    if max(len(answer), len(other)) > 1:
        a, b, *before = subject.token_strings([answer[first], other[first], *answer[:first]])
        note = f"{pair.answer!r} and {pair.other!r} are several tokens: measured are the first that differ, {a!r} and "
        note += repr(b) + (f", after {''.join(before)!r}" if before else "")
    if len(clean) + first + 1 > subject.context:
        raise ValueError(f"it has {len(clean):,} tokens and {subject.name} reads at most {subject.context:,}")
    ahead = answer[:first]
    return Aligned(
        clean=(subject.bos, *clean, *ahead),
        corrupted=(subject.bos, *corrupted, *ahead),
        answer=answer[first],
        other=other[first],
        roles=tuple(_roles(subject, pair, clean)),
        note=note,
    )


def _roles(subject: Subject, pair: ContrastPair, clean: list[int]) -> Iterator[tuple[str, int]]:
    """Each role and the position of its last token, where the tokens break there; BOS is position 0."""
    for role, ids in zip(pair.roles, subject.tokenize([pair.clean[:end] for end in pair.roles.values()]), strict=True):
        if ids and ids == clean[: len(ids)]:
            yield role, len(ids)


def _in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common subsequence."""
    above = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
        above = row
    return above[-1]


def _text(subject: Subject, tokens: Sequence[int]) -> str:
    return "".join(subject.token_strings(tokens[1:]))
