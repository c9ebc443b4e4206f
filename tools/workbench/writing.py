"""Writing many replies at once, and the prompts that they answer: conversations, with the next turn begun or not."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from tools.workbench.generation import generate
from tools.workbench.registry import ToolError
from tools.workbench.subject import Splice, Subject

TOGETHER = 2048  # tokens of the prompts that are read at once: their logits are 400 MB in float32
ROWS = 64  # prompts that are continued at once
MARK = "\ue000"  # stands in a conversation for what a turn says

Speaker = Literal["user", "assistant"]


class Turn(NamedTuple):
    """What somebody said in a conversation."""

    speaker: Speaker
    text: str


def conversation(
    subject: Subject, turns: Sequence[Turn], speaker: Speaker = "assistant", opening: str = ""
) -> list[int]:
    """Token ids of a conversation whose next turn is `speaker`'s and begins with `opening`. ToolError for a model
    without a chat template, and for an empty message."""
    if not subject.tokenizer.chat_template:
        raise ToolError(f"{subject.name} has no chat template: it holds no conversations.")
    if any(not turn.text.strip() for turn in turns):
        raise ToolError("A prompt is empty: give at least one word.")
    messages = [{"role": turn.speaker, "content": turn.text} for turn in turns]
    if speaker == "assistant":
        spelled = subject.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    else:
        whole = [*messages, {"role": speaker, "content": MARK}]
        spelled = subject.tokenizer.apply_chat_template(whole, tokenize=False).partition(MARK)[0]
    (ids,) = subject.tokenize([spelled + opening])
    return ids if ids[0] == subject.bos else [subject.bos, *ids]


def written(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    n: int,
    temperature: float = 0.0,
    seed: int = 0,
    also: Sequence[Splice] = (),
) -> list[list[int]]:
    """Up to n tokens that follow each prompt (token ids, BOS in front), the end token left out: written for many
    prompts at once, those of like length together, padded on the right. `also` is done in every token.

    Temperature 0 takes the likeliest token each time; otherwise `seed` and the prompts decide. ToolError for a prompt
    that leaves no room for n tokens.
    """
    for ids in prompts:
        if len(ids) + n > subject.context:
            raise ToolError(
                f"A prompt has {len(ids):,} tokens and {subject.name} reads at most {subject.context:,}, of which {n} "
                "are for its reply: give shorter prompts."
            )
    found: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    while order:
        width = 0
        rows: list[int] = []
        while order and len(rows) < ROWS and (not rows or (len(rows) + 1) * len(prompts[order[0]]) <= TOGETHER):
            rows.append(order.pop(0))
            width = len(prompts[rows[-1]])
        tokens = torch.full((len(rows), width), subject.bos)
        for row, index in enumerate(rows):
            tokens[row, : len(prompts[index])] = torch.tensor(list(prompts[index]))
        lengths = [len(prompts[index]) for index in rows]
        text = generate(subject, tokens, n, (), temperature, seed + rows[0], lengths, also)
        for index, ids in zip(rows, text[:, width:].tolist(), strict=True):
            found[index] = ids[: ids.index(subject.eos)] if subject.eos in ids else ids
    return [found[index] for index in range(len(prompts))]


def replies(
    subject: Subject, prompts: Sequence[Sequence[int]], n: int, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """The same as text."""
    return [subject.tokenizer.decode(ids) for ids in written(subject, prompts, n, temperature, seed)]


class Replied(NamedTuple):
    """A prompt of `prompt` tokens and what the model wrote after it, at least one token: an end token if nothing."""

    tokens: list[int]
    prompt: int

    @property
    def places(self) -> range:
        """The positions from which the reply was written: the prompt's last, and the reply's but its last."""
        return range(self.prompt - 1, len(self.tokens) - 1)

    def text(self, subject: Subject) -> str:
        """The reply."""
        return str(subject.tokenizer.decode([token for token in self.tokens[self.prompt :] if token != subject.eos]))


def replied(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[Replied]:
    """What the model writes after each prompt, the likeliest n tokens at most."""
    more = written(subject, prompts, n)
    return [Replied([*ids, *(own or [subject.eos])], len(ids)) for ids, own in zip(prompts, more, strict=True)]
