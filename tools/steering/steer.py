"""Writes text with the model while it is edited, beside what it writes without the edit and under its controls."""

from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import RANDOMS, along_random, interval, outweighs, peer, said, told
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.generation import generate
from tools.workbench.metrics import alike, encode, portions
from tools.workbench.registry import ToolInput, ToolOutput, tool

OTHERS = 3  # conditions beside the random directions


class Input(ToolInput):
    """The edits, the prompts to go on from, and how much to write."""

    edits: Annotated[tuple[Edit, ...], Field(min_length=1, max_length=16)]
    prompts: Annotated[tuple[str, ...], Field(min_length=1, max_length=32)]
    tokens: int = Field(40, ge=1, le=512, description="new tokens at most")
    temperature: float = Field(0.0, ge=0, le=2, description="0: the likeliest token each time")
    chat: bool = Field(False, description="each prompt is a user's message, and the model replies")


class Continuation(ToolOutput):
    """What follows one prompt. kl: of the unedited to the edited next-token distribution, nats, mean over its tokens;
    perplexity: of the text under the unedited model, per token."""

    text: str
    tokens: int
    kl: float
    perplexity: float


class Condition(ToolOutput):
    """One continuation for each prompt, and the means over them; kl with a 95 % interval (None for one prompt)."""

    continuations: tuple[Continuation, ...]
    kl: float
    low: float | None
    high: float | None
    perplexity: float


class Controls(ToolOutput):
    """The same prompts without an edit, with random directions and with another active unit, of equal norm.
    random_direction: the one that does most; randoms: the KL of each."""

    no_edit: Condition
    random_direction: Condition
    randoms: tuple[float, ...]
    random_active: Condition
    other: str


class Output(ToolOutput):
    """The steered continuations beside their controls; clear: they differ from what the model would say by more."""

    steered: Condition
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: each prompt is continued under each condition, then read twice."""
    now = pace(context.subject)
    lengths = Counter(1 + len(ids) + CHAT * input.chat for ids in context.subject.tokenize(input.prompts))
    seconds = 0.0
    for length, count in lengths.items():
        seconds += OTHERS * now.writing(count, length, input.tokens)
        seconds += now.writing(RANDOMS * count, length, input.tokens)
        seconds += 2 * (OTHERS + RANDOMS) * (now.start + now.token * count * (length + input.tokens))
    return seconds


@tool(version=3, estimate=estimate)
def steer(input: Input, context: Context) -> Output:
    """Continues prompts with the model while latents, directions, neurons or heads are edited in every token.

    Shown beside it: the unedited continuation, that of the random direction which does most of nine, and one steered by
    another active latent, each as strong. Read the texts, and believe a difference only where the verdict says that it
    stands clear; a perplexity many times the unedited one means that the strength broke the model.
    """
    subject = context.subject
    prompts = encode(subject, input.prompts, input.chat, room=input.tokens)
    rng = context.rng("steer", *(edit.model_dump_json() for edit in input.edits))
    groups = [prepare(subject, [edit], context.directions) for edit in input.edits]
    random = [along_random(context, group, rng) for group in groups]
    peers = [peer(context, edit, group, prompts, rng) for edit, group in zip(input.edits, groups, strict=True)]
    seed = int(rng.integers(2**31))

    def written(changed: list[list[Change]]) -> list[Condition]:
        """One for each direction that the changes are written along."""
        changes = [change for group in changed for change in group]
        found: dict[tuple[int, int], Continuation] = {}
        blocks = max((change.rows for change in changes), default=1)
        for indices, tokens in alike(prompts):
            for which in portions(blocks, tokens.numel() + len(tokens) * input.tokens):
                some = [change.only(which) for change in changes]
                rows = tokens.repeat(which.stop - which.start, 1)
                text = generate(subject, rows, input.tokens, some, input.temperature, seed)
                places = [(block, index) for block in range(which.start, which.stop) for index in indices]
                found.update(zip(places, _read(context, text, tokens.shape[1], some), strict=True))
        return [_condition([found[block, index] for index in range(len(prompts))]) for block in range(blocks)]

    (plain,) = written([])
    (steered,) = written(groups)
    at_random = written(random)
    (other,) = written([group for group, _ in peers])
    strongest = max(at_random, key=lambda each: each.kl)
    names = ", ".join(name for _, name in peers)
    kl, *control_kl = (np.array([c.kl for c in each.continuations]) for each in (steered, *at_random, other))
    clear = outweighs(kl, control_kl)
    verdict = (
        f"shifts the next token by a KL of {told(steered.kl, steered.low, steered.high, '')} nats; {RANDOMS} random "
        f"directions by at most {strongest.kl:.3g}, {names} by {other.kl:.3g}: {said(clear, len(prompts))}. Perplexity "
        f"of the text under the unedited model {steered.perplexity:.3g}, unedited {plain.perplexity:.3g}"
    )
    controls = Controls(
        no_edit=plain,
        random_direction=strongest,
        randoms=tuple(each.kl for each in at_random),
        random_active=other,
        other=names,
    )
    return Output(steered=steered, controls=controls, clear=clear, verdict=verdict)


def _condition(continuations: list[Continuation]) -> Condition:
    kl = np.array([each.kl for each in continuations])
    low, high = interval(kl)
    mean = float(np.exp(np.mean([np.log(each.perplexity) for each in continuations])))
    return Condition(continuations=tuple(continuations), kl=float(kl.mean()), low=low, high=high, perplexity=mean)


def _read(context: Context, text: Tensor, prompt: int, changes: list[Change]) -> list[Continuation]:
    """What was written after the first `prompt` tokens of text [b, s], read again with and without the changes."""
    subject = context.subject
    before = subject.logits(text)[:, prompt - 1 : -1]  # [b, written, vocabulary]
    after = subject.logits(text, changes, prompt)[:, prompt - 1 : -1] if changes else before
    found = []
    for row, ids in enumerate(text[:, prompt:].tolist()):
        n = ids.index(subject.eos) + 1 if subject.eos in ids else len(ids)
        plain, edited = (logits[row, :n].double().log_softmax(-1) for logits in (before, after))
        loss = -plain.gather(-1, text[row, prompt : prompt + n, None])[:, 0]
        found.append(
            Continuation(
                text=subject.tokenizer.decode([i for i in ids[:n] if i != subject.eos]),
                tokens=n,
                kl=float((plain.exp() * (plain - edited)).sum(-1).clamp(min=0).mean()),
                perplexity=float(loss.mean().exp()),
            )
        )
    return found
