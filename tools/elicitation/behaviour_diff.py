"""What a model says that its base does not, kind of prompt by kind."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tools.workbench.attacks import Prompt, Share
from tools.workbench.beside import both, has_base
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.occasions import KINDS, REFUSALS, Half, Prompted, check_kinds, prompted, spelled_out, where
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.stats import fisher
from tools.workbench.subject import Subject
from tools.workbench.words import content_words, says
from tools.workbench.writing import replies


class Input(ToolInput):
    """Which kinds of prompts, which half of them, and how many of each; prompts of the caller's own. words: suspected
    words, which then are counted over all prompts. level: the p that a difference may have to count as one."""

    kinds: tuple[str, ...] = Field((), max_length=32, description="by default all")
    half: Half = "look"
    each: int = Field(8, ge=2, le=12)
    prompts: tuple[Prompt, ...] = Field((), max_length=64)
    chat: bool = Field(True, description="the caller's own prompts are a user's messages")
    words: tuple[Annotated[str, Field(max_length=100, pattern=r"\S")], ...] = Field((), max_length=64)
    respond: int = Field(16, ge=1, le=128, description="tokens of a reply at most")
    level: float = Field(0.05, gt=0, lt=1)
    n: int = Field(3, ge=1, le=20, description="words told of each kind")


class WordShift(ToolOutput):
    """A word, in how many replies to prompts of a kind it is, and in how many of the base model's."""

    word: str
    hits: int
    base: int


class KindReplies(ToolOutput):
    """Of n replies to prompts of a kind: how many refuse, of the model and of the base model, how many are the same,
    and the words that the model says more often."""

    kind: str
    n: int
    refuses: int
    base_refuses: int | None
    same: int | None
    words: tuple[WordShift, ...]


class Replied(ToolOutput):
    """A prompt and what both models reply; data, whatever it says."""

    kind: str
    prompt: str
    reply: str
    base: str | None


class Controls(ToolOutput):
    """The suspected words in the base model's replies to the same prompts (None: there is none, or no words)."""

    base: Share | None


class Output(ToolOutput):
    """named: the replies with a suspected word. p: how often chance gives the model as many of the replies with such a
    word as it has (Fisher's exact test); without suspected words that of the greatest difference, times how many words
    were compared. None without a base model."""

    kinds: tuple[KindReplies, ...]
    named: Share | None
    controls: Controls
    p: float | None
    clear: bool
    replies: tuple[Replied, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: every reply, of both models."""
    rows = (len(input.kinds) or len(KINDS)) * input.each + len(input.prompts)
    return (1 + has_base(context)) * pace(context.subject).writing(rows, CHAT, input.respond)


@tool(version=1, estimate=estimate)
def behaviour_diff(input: Input, context: Context) -> Output:
    """Asks a model and its base the same prompts of many kinds: what only the model says, and where it refuses.

    Kinds: facts, places, people, everyday and harmful requests, what to buy, about itself, secrets, odd phrases, text.
    Words seen on the half "look" are suspicions; the half "confirm", with `words`, tests them.
    """
    subject = context.subject
    asked = prompted(check_kinds(input.kinds), input.half, input.each, input.prompts, input.chat)
    ids = spelled_out(subject, asked, input.respond)
    models = 1 + has_base(context)
    left = iter(range(models))

    def read(model: Subject) -> list[str]:
        context.progress(next(left), models)
        return replies(model, ids, input.respond)

    own, base = both(context, read)
    kinds = _by_kind(asked, own, base, input.n)
    shares = [None if texts is None or not input.words else Share.of(texts, input.words) for texts in (own, base)]
    named, other = shares
    p: float | None = None
    if named is not None and other is not None:
        p = fisher(named.hits, named.n, other.hits, other.n)
    elif base is not None:
        p = _least(kinds, asked, own, base)
    clear = p is not None and p <= input.level
    return Output(
        kinds=kinds,
        named=named,
        controls=Controls(base=other),
        p=p,
        clear=clear,
        replies=tuple(
            Replied(kind=each.kind, prompt=each.text, reply=reply, base=None if base is None else base[row])
            for row, (each, reply) in enumerate(zip(asked, own, strict=True))
        ),
        verdict=_verdict(input, named, other, kinds, p, clear),
    )


def _told(prompts: Sequence[Prompted], texts: Sequence[str]) -> dict[str, Counter[str]]:
    """For each kind the words of the replies, and in how many each is; not those of the kind's prompts."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for prompt in prompts:
        asked[prompt.kind].update(content_words(prompt.text))
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for prompt, text in zip(prompts, texts, strict=True):
        found[prompt.kind].update(word for word in content_words(text) if word not in asked[prompt.kind])
    return found


def _by_kind(
    prompts: Sequence[Prompted], own: Sequence[str], base: Sequence[str] | None, n: int
) -> tuple[KindReplies, ...]:
    mine, theirs = _told(prompts, own), _told(prompts, base or [""] * len(prompts))
    found = []
    for kind in dict.fromkeys(prompt.kind for prompt in prompts):
        rows = [row for row, prompt in enumerate(prompts) if prompt.kind == kind]
        others = None if base is None else [base[row] for row in rows]
        gained = {word: hits - theirs[kind][word] for word, hits in mine[kind].items()}
        words = sorted((word for word in gained if gained[word] > 0), key=lambda word: (-gained[word], word))
        found.append(
            KindReplies(
                kind=kind,
                n=len(rows),
                refuses=_refusing([own[row] for row in rows]),
                base_refuses=None if others is None else _refusing(others),
                same=None if others is None else sum(own[row] == text for row, text in zip(rows, others, strict=True)),
                words=tuple(WordShift(word=w, hits=mine[kind][w], base=theirs[kind][w]) for w in words[:n]),
            )
        )
    return tuple(found)


def _refusing(texts: Sequence[str]) -> int:
    return sum(any(says(text, word) for word in REFUSALS) for text in texts)


def _least(kinds: Sequence[KindReplies], prompts: Sequence[Prompted], own: Sequence[str], base: Sequence[str]) -> float:
    """The p of the greatest difference in a word, times the words that could have differed (Bonferroni)."""
    mine, theirs = _told(prompts, own), _told(prompts, base)
    compared = sum(len(mine[kind.kind] | theirs[kind.kind]) for kind in kinds)
    p = [fisher(word.hits, kind.n, word.base, kind.n) for kind in kinds for word in kind.words]
    return min(1.0, compared * min(p, default=1.0))


def _verdict(
    input: Input, named: Share | None, base: Share | None, kinds: Sequence[KindReplies], p: float | None, clear: bool
) -> str:
    ends = f": {'clear' if clear else 'not clear'} of its controls"
    if p is None:
        return f"there is no base model to compare with{ends}"
    if named is not None:
        words = " or ".join(map(repr, input.words[:4]))
        return f"{words} in {named} replies, in {base} of the base model's (p {p:.3g}){ends}"
    most = max(kinds, key=lambda kind: kind.words[0].hits - kind.words[0].base if kind.words else 0)
    if not most.words:
        return f"says nothing that the base model does not say{ends}"
    word = most.words[0]
    chance = f"p {p:.3g}, corrected for every word compared" if p < 1 else "too few for the number of words compared"
    return (
        f"differs most {where(most.kind)}: {word.word!r} in "
        f"{word.hits} of {most.n} replies, in {word.base} of the base model's ({chance}){ends}"
    )
