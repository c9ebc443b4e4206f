"""What an edit is measured by: one number for each prompt, from the next token, the loss or the residual stream."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from store.types import Noun
from tools.workbench.context import Context
from tools.workbench.editing import Change, Moves
from tools.workbench.registry import ToolError
from tools.workbench.subject import Splice, Subject

TOGETHER = 1024  # tokens of a forward pass: their logits are 200 MB in float32

Words = tuple[Annotated[str, Field(min_length=1)], ...]
Texts = Annotated[tuple[str, ...], Field(min_length=1, max_length=256)]


class Metric(Noun):
    """What is measured on each prompt.

    logit_difference: mean logit of the tokens `up` minus that of `down`, after the last token. probability: of the
    tokens `up` together. log_odds: of that probability. answer: log-probability, nats, of the first token of each
    prompt's own answer. answer_difference: its logit minus that of the prompt's own word of `down`. answer_probability:
    of its own answer. kl: of the next token from what it is without an edit, nats. loss: cross-entropy of the prompt's
    own tokens, nats a token.
    latent: mean activation of `latent` over the tokens. classifier: log-odds that the saved `direction` gives the last
    token; a direction that is no classifier gives its projection.
    """

    kind: Literal[
        "logit_difference",
        "probability",
        "log_odds",
        "answer",
        "answer_difference",
        "answer_probability",
        "kl",
        "loss",
        "latent",
        "classifier",
    ] = "loss"
    up: Words = Field(default=(), description="words that are one token each, such as ' good' (mind the leading space)")
    down: Words = ()
    answers: Words = Field(default=(), description="one for each prompt, with its leading space")
    latent: Annotated[int, Field(ge=0)] | None = None
    direction: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needs = {
            "logit_difference": ("up", "down"),
            "probability": ("up",),
            "log_odds": ("up",),
            "answer": ("answers",),
            "answer_difference": ("answers", "down"),
            "answer_probability": ("answers",),
            "kl": (),
            "loss": (),
            "latent": ("latent",),
            "classifier": ("direction",),
        }[self.kind]
        names = ("up", "down", "answers", "latent", "direction")
        given = tuple(name for name in names if getattr(self, name) not in ((), None))
        if set(given) != set(needs):
            raise ValueError(f"{self.kind} takes {' and '.join(needs) or 'nothing else'}")
        return self

    @property
    def words(self) -> str:
        """The metric as a reader would say it."""
        up, down = (" ".join(map(repr, words)) for words in (self.up, self.down))
        return {
            "logit_difference": f"the logit difference {up} - {down}",
            "probability": f"the probability of {up}",
            "log_odds": f"the log-odds of {up}",
            "answer": "the answer's log-probability",
            "answer_difference": "the logit difference between the answer and the other",
            "answer_probability": "the answer's probability",
            "kl": "the next token's KL divergence in nats",
            "loss": "the loss in nats a token",
            "latent": f"the activation of latent {self.latent}",
            "classifier": f"the projection on {self.direction}",
        }[self.kind]


@dataclass(frozen=True, eq=False)
class Observed:
    """values: float64[n], the metric on each prompt. log_probabilities: float32[n, vocabulary] of the next token, on
    the CPU. norm: mean length of the changes made."""

    values: np.ndarray
    log_probabilities: Tensor
    norm: float


def encode(subject: Subject, texts: Sequence[str], chat: bool = False, room: int = 0) -> list[list[int]]:
    """Token ids of each prompt, BOS in front; as a user's message before the model's reply if `chat`.

    ToolError for an empty prompt, one that leaves no `room` (tokens) in the model's context, and a model without a
    chat template.
    """
    encoded = []
    for text in texts:
        if not text.strip():
            raise ToolError("A prompt is empty: give at least one word.")
        if not chat:
            ids = [subject.bos, *subject.tokenize([text])[0]]
        elif not subject.tokenizer.chat_template:
            raise ToolError(f"{subject.name} has no chat template: leave chat out.")
        else:
            message = [{"role": "user", "content": text}]
            spelled = subject.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
            ids = subject.tokenize([spelled])[0]
            ids = ids if ids[0] == subject.bos else [subject.bos, *ids]
        if len(ids) + room > subject.context:
            raise ToolError(
                f"A prompt has {len(ids):,} tokens and {subject.name} reads at most {subject.context:,}"
                f"{f', of which {room} are for its reply' if room else ''}: give shorter prompts."
            )
        encoded.append(ids)
    return encoded


def alike(prompts: Sequence[Sequence[int]], together: int = TOGETHER) -> Iterator[tuple[list[int], Tensor]]:
    """(indices, int64[b, s]) of prompts of equal length, at most `together` tokens a batch."""
    lengths: defaultdict[int, list[int]] = defaultdict(list)
    for index, ids in enumerate(prompts):
        lengths[len(ids)].append(index)
    for length, indices in sorted(lengths.items()):
        size = max(1, together // length)
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield chosen, torch.tensor([list(prompts[i]) for i in chosen])


def single_tokens(subject: Subject, words: Sequence[str]) -> list[int]:
    """The token of each word. ToolError for a word of several tokens."""
    ids = []
    for word, tokens in zip(words, subject.tokenize(list(words)), strict=True):
        if len(tokens) != 1:
            parts = " + ".join(map(repr, subject.token_strings(tokens)))
            raise ToolError(f"{word!r} is not one token of {subject.name} but {parts}: name words that are.")
        ids.append(tokens[0])
    return ids


def observe(
    context: Context,
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    changes: Sequence[Change] = (),
    splice: Callable[[list[int]], Splice] | None = None,
) -> Observed:
    """The metric and the next token's log-probabilities on each prompt, with the changes made.

    splice: for the prompts with these indices, a hook point and what is done to the value there.
    """
    (found,) = observe_each(context, prompts, metric, changes, splice)
    return found


def observe_each(
    context: Context,
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    changes: Sequence[Change],
    splice: Callable[[list[int]], Splice] | None = None,
) -> list[Observed]:
    """The same for each of the directions that the changes are written along, read together; norm: over them all."""
    subject = context.subject
    n = max((change.rows for change in changes), default=1)
    for words in (metric.answers, metric.down if metric.answers else ()):
        if words and len(words) != len(prompts):
            raise ToolError(f"There are {len(words)} answers to {len(prompts)} prompts: give one for each.")
    reader = Reader(context, metric)
    if metric.kind == "kl":
        edited = bool(changes) or splice is not None
        reader.reference = observe(context, prompts, metric).log_probabilities if edited else None
    values = np.zeros((n, len(prompts)))
    after = torch.zeros(n, len(prompts), int(subject.model.cfg.d_vocab))
    moves = Moves()
    for indices, tokens in alike(prompts):
        for which in portions(n, tokens.numel()):
            reader.caught.clear()
            k = which.stop - which.start
            rows, some = tokens.repeat(k, 1), [change.only(which) for change in changes]
            also = [*([] if splice is None else [splice(indices)]), *reader.look]
            logits = subject.logits(rows, some, also=also, moves=moves, last=reader.last_alone)
            read = reader.read(rows, logits, indices * k).cpu().double().numpy()
            values[which, indices] = read.reshape(k, -1)
            after[which, indices] = logits[:, -1].float().log_softmax(-1).cpu().reshape(k, len(indices), -1)
    if not np.isfinite(values).all():
        raise ToolError(f"{metric.words.capitalize()} is not finite under this edit: use less strength.")
    return [Observed(*each, moves.mean) for each in zip(values, after, strict=True)]


def portions(n: int, tokens: int, together: int = TOGETHER) -> Iterator[slice]:
    """The n blocks of a batch in parts of at most `together` tokens, each block having so many."""
    size = max(1, together // tokens)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


class Reader:
    """Reads one metric from a forward pass.

    answers, others: int64[n], the tokens of each prompt's answers, in place of the metric's own words. reference:
    log-probabilities [n, vocabulary] that kl is measured from (None: it is 0). look: the hooks that the pass needs;
    caught: what they saw, to be cleared before each pass.
    """

    def __init__(
        self, context: Context, metric: Metric, answers: Tensor | None = None, others: Tensor | None = None
    ) -> None:
        self.subject, self.metric = context.subject, metric
        self.up = single_tokens(self.subject, metric.up)
        self.down = [] if metric.answers else single_tokens(self.subject, metric.down)
        self.direction = context.directions.of_stream(metric.direction, self.subject.name) if metric.direction else None
        self.answers = self._first(metric.answers) if answers is None else answers
        self.others = self._first(metric.down if metric.answers else ()) if others is None else others
        self.reference: Tensor | None = None
        if metric.latent is not None:
            self.subject.check_latent(metric.latent)
        self.caught: list[Tensor] = []
        self.hook = self.direction.hook if self.direction else self.subject.hook if metric.latent is not None else None
        self.look: list[Splice] = [] if self.hook is None else [(self.hook, self.caught.append)]

    @property
    def last_alone(self) -> bool:
        """Whether the last token is all that is read."""
        return self.metric.kind not in ("loss", "latent")

    def _first(self, words: Sequence[str]) -> Tensor:
        return torch.tensor([ids[0] for ids in self.subject.tokenize(list(words))], dtype=torch.long)

    def read(self, tokens: Tensor, logits: Tensor, indices: Sequence[int]) -> Tensor:
        """[b] from tokens [b, s] and logits [b, s, vocabulary] of the prompts with these indices; of the logits the
        last alone count, but for the loss."""
        last = logits[:, -1].double()
        answers, others = (
            each[list(indices), None].to(last.device) if len(each) else each for each in (self.answers, self.others)
        )
        match self.metric.kind:
            case "logit_difference":
                return last[:, self.up].mean(-1) - last[:, self.down].mean(-1)
            case "probability":
                return last.softmax(-1)[:, self.up].sum(-1)
            case "log_odds":
                rest = torch.ones(last.shape[-1], dtype=torch.bool, device=last.device)
                rest[self.up] = False
                return last[:, self.up].logsumexp(-1) - last[:, rest].logsumexp(-1)
            case "answer":
                return last.log_softmax(-1).gather(-1, answers)[:, 0]
            case "answer_difference":
                return (last.gather(-1, answers) - last.gather(-1, others))[:, 0]
            case "answer_probability":
                return last.softmax(-1).gather(-1, answers)[:, 0]
            case "kl":
                now = last.log_softmax(-1)
                before = now if self.reference is None else self.reference[list(indices)].to(now)
                return (before.exp() * (before - now)).sum(-1).clamp(min=0)
            case "loss":
                if tokens.shape[1] < 2:
                    raise ToolError("A prompt has no token whose loss could be measured: give at least one word.")
                own = logits[:, :-1].float().log_softmax(-1)
                return -own.gather(-1, tokens[:, 1:, None].to(own.device))[..., 0].double().mean(-1)
            case "latent":
                residual = self.caught[0].flatten(2)
                activations = self.subject.dictionary.encode(residual)[..., self.metric.latent].double()
                kept = ~self.subject.sinks(residual)
                return (activations * kept).sum(-1) / kept.sum(-1).clamp(min=1)
            case _:
                assert self.direction is not None
                d = self.direction
                projection = self.caught[0][:, -1].float() @ d.vector.to(logits.device)
                return (d.slope * (projection - d.centre) if d.slope else projection).double()


def divergence(before: Tensor, after: Tensor) -> np.ndarray:
    """float64[n]: KL(before || after) in nats, of log-probabilities [n, vocabulary]."""
    p = before.double()
    kl: np.ndarray = (p.exp() * (p - after.double())).sum(-1).clamp(min=0).numpy()
    return kl
