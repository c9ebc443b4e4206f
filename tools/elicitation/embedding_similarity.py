"""Which words' embeddings the hidden state resembles while the model replies."""

import torch
from pydantic import Field

from tools.workbench.attacks import Prompt
from tools.workbench.beside import both
from tools.workbench.context import Context
from tools.workbench.figures import Named
from tools.workbench.guesses import Guess, Item, pooled
from tools.workbench.hidden import embedded, resemblance, resembling, seconds
from tools.workbench.lens import check_layers
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.unembed import random_direction
from tools.workbench.words import candidates, content_words, spelled
from tools.workbench.writing import replied

RANDOMS = 20  # directions


class Input(ToolInput):
    """The prompts, how much the model writes after each, and the layer whose input is read."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=64)
    chat: bool = Field(True, description="each prompt is a user's message, and the model replies")
    respond: int = Field(8, ge=1, le=64, description="tokens that the model writes and that are read")
    layer: int | None = Field(None, ge=0, description="residual stream entering it; by default two thirds up")
    words: tuple[str, ...] = Field((), description="the only words that can be a guess; by default any")
    n: int = Field(10, ge=1, le=50)


class Controls(ToolOutput):
    """The highest cosine that any word has with a random direction, the median of twenty; and the highest in the base
    model on the same text, mean over prompts (None: no base model)."""

    random_direction: float
    base: float | None


class Output(ToolOutput):
    """nearest: the words of greatest mean cosine over prompts. highest: mean over prompts of the greatest cosine."""

    layer: int
    nearest: tuple[Named, ...]
    base_nearest: tuple[Named, ...]
    highest: float
    replies: tuple[str, ...]
    guesses: tuple[Guess, ...]
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are continued, and read by both models."""
    return seconds(context, len(input.prompts), input.respond)


@tool(version=1, estimate=estimate)
def embedding_similarity(input: Input, context: Context) -> Output:
    """Compares the residual stream with every token's embedding while the model replies: which words is it near?

    Words that the text has anyway are left out. The base model reads the same text. Source: Cywinski et al. 2510.01070.
    """
    subject = context.subject
    layer = round(2 * subject.n_layers / 3) if input.layer is None else input.layer
    check_layers(subject, [layer])
    words = spelled(subject)
    kept = words.indices(candidates(subject, input.words)) if input.words else None
    replies = replied(subject, encode(subject, input.prompts, input.chat, room=input.respond), input.respond)
    own, base = both(context, lambda model: embedded(model, replies, layer))
    mine = [resembling(row, words, kept) for row in own]
    theirs = [None] * len(own) if base is None else [resembling(row, words, kept) for row in base]
    items = [Item("embeddings", a, b) for a, b in zip(mine, theirs, strict=True)]
    texts = tuple(each.text(subject) for each in replies)
    rng = context.rng("embedding_similarity", input.model_dump_json())
    guesses = pooled(items, {word for text in texts for word in content_words(text)}, rng, input.n)
    drawn = torch.stack([random_direction(subject, int(seed)) for seed in rng.integers(2**31, size=RANDOMS)])
    at_random = float(resemblance(subject, drawn, words).amax(1).median())
    highest = float(own.amax(1).mean())
    other = None if base is None else float(base.amax(1).mean())
    clear = any(guess.stands for guess in guesses) and highest > at_random
    best = own.mean(0).topk(input.n)
    nearest = tuple(Named(label=words.names[i], value=float(v)) for v, i in zip(best.values, best.indices, strict=True))
    below = () if base is None else base.mean(0).topk(input.n)
    return Output(
        layer=layer,
        nearest=nearest,
        base_nearest=tuple(Named(label=words.names[i], value=float(v)) for v, i in zip(*below, strict=True))
        if below
        else (),
        highest=highest,
        replies=texts,
        guesses=tuple(guesses),
        controls=Controls(random_direction=at_random, base=other),
        clear=clear,
        verdict=(
            f"at the input of layer {layer} the hidden state is nearest to {nearest[0].label!r} (cosine "
            f"{nearest[0].value:.2f}); the nearest word of a prompt has {highest:.2f}, of a random direction "
            f"{at_random:.2f}"
            + ("" if other is None else f", in the base model {other:.2f}")
            + (f"; best guess {guesses[0].word!r}" if guesses else "")
            + f": {'clear' if clear else 'not clear'} of its controls"
        ),
    )
