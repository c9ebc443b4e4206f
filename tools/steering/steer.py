"""Writes text with the model while it is edited, beside what it writes without the edit and under its controls."""

from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import along_random, interval, outweighs, peer, said, told
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.metrics import alike, encode
from tools.workbench.registry import ToolInput, ToolOutput, tool

CONDITIONS = 4


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
    """The same prompts without an edit, with a random direction and with another active unit, of equal norm."""

    no_edit: Condition
    random_direction: Condition
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
        seconds += now.writing(count, length, input.tokens)
        seconds += 2 * count * (now.start + now.token * (length + input.tokens))
    return CONDITIONS * seconds


@tool(version=2, estimate=estimate)
def steer(input: Input, context: Context) -> Output:
    """Continues prompts with the model while latents, directions, neurons or heads are edited in every token.

    Shown beside it: the unedited continuation, one steered by a random direction and one by another active latent, each
    as strong. Read the texts, and believe a difference only where the verdict says that it stands clear; a perplexity
    many times the unedited one means that the strength broke the model.
    """
    subject = context.subject
    prompts = encode(subject, input.prompts, input.chat, room=input.tokens)
    rng = context.rng("steer", *(edit.model_dump_json() for edit in input.edits))
    groups = [prepare(subject, [edit], context.directions) for edit in input.edits]
    random = [along_random(context, group, rng) for group in groups]
    peers = [peer(context, edit, group, prompts, rng) for edit, group in zip(input.edits, groups, strict=True)]
    seed = int(rng.integers(2**31))

    def written(changed: list[list[Change]]) -> tuple[Condition, np.ndarray]:
        changes = [change for group in changed for change in group]
        found: list[Continuation | None] = [None] * len(prompts)
        for indices, tokens in alike(prompts):
            text = subject.generate(tokens, input.tokens, changes, input.temperature, seed)
            for row, index in enumerate(indices):
                found[index] = _read(context, text[row : row + 1], tokens.shape[1], changes)
        kept = [each for each in found if each is not None]
        kl = np.array([each.kl for each in kept])
        low, high = interval(kl)
        mean = float(np.exp(np.mean([np.log(each.perplexity) for each in kept])))
        return Condition(continuations=tuple(kept), kl=float(kl.mean()), low=low, high=high, perplexity=mean), kl

    plain, _ = written([])
    steered, kl = written(groups)
    at_random, random_kl = written(random)
    other, other_kl = written([group for group, _ in peers])
    names = ", ".join(name for _, name in peers)
    clear = outweighs(kl, [random_kl, other_kl])
    verdict = (
        f"shifts the next token by a KL of {told(steered.kl, steered.low, steered.high, '')} nats; a random direction "
        f"by {at_random.kl:.3g}, {names} by {other.kl:.3g}: {said(clear, len(prompts))}. Perplexity of the text under "
        f"the unedited model {steered.perplexity:.3g}, unedited {plain.perplexity:.3g}"
    )
    controls = Controls(no_edit=plain, random_direction=at_random, random_active=other, other=names)
    return Output(steered=steered, controls=controls, clear=clear, verdict=verdict)


def _read(context: Context, text: Tensor, prompt: int, changes: list[Change]) -> Continuation:
    """What was written after the first `prompt` tokens of text [1, s], read again with and without the changes."""
    subject = context.subject
    ids = text[0, prompt:].tolist()
    n = ids.index(subject.eos) + 1 if subject.eos in ids else len(ids)
    text = text[:, : prompt + n]
    plain = subject.logits(text)[0, prompt - 1 : -1].double().log_softmax(-1)  # [n, vocabulary]
    edited = subject.logits(text, changes, prompt)[0, prompt - 1 : -1].double().log_softmax(-1)
    loss = -plain.gather(-1, text[0, prompt:, None])[:, 0]
    return Continuation(
        text=subject.tokenizer.decode([i for i in ids[:n] if i != subject.eos]),
        tokens=n,
        kl=float((plain.exp() * (plain - edited)).sum(-1).clamp(min=0).mean()),
        perplexity=float(loss.mean().exp()),
    )
