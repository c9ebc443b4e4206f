"""Has the model describe its own hidden state."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.attacks import Prompt
from tools.workbench.beside import both, has_base
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.generation import generate
from tools.workbench.guesses import Guess, Item, pooled
from tools.workbench.lens import check_layers
from tools.workbench.metrics import alike, encode
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject
from tools.workbench.unembed import random_direction
from tools.workbench.words import content_words

TARGET = "Paris: a city in France. Mozart: a composer of music. Toyota: a maker of cars. Oxygen: a gas in the air. x"
GOES_ON = ":"  # after the patched token
ROWS = 64  # descriptions written at once


class Input(ToolInput):
    """The prompts whose last token's hidden state is described, the layers it is taken from, the layer it is put into,
    and the text in which it replaces the last token."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=64)
    chat: bool = Field(True, description="each prompt is a user's message, before the model's reply")
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field((), description="by default three of the second half")
    into: int = Field(2, ge=0, description="residual stream entering it")
    target: Prompt = TARGET
    tokens: int = Field(10, ge=1, le=64, description="of a description at most")
    n: int = Field(10, ge=1, le=50)


class Description(ToolOutput):
    """What the model writes about the hidden state of a prompt at a layer, and the base model about its own."""

    prompt: str
    layer: int
    text: str
    base: str | None


class Controls(ToolOutput):
    """unpatched: what follows the target as it is. random: about random vectors as long. base_guess: the word that the
    base model's descriptions name most (None: no base model)."""

    unpatched: str
    random: tuple[str, ...]
    base_guess: str | None


class Output(ToolOutput):
    """The descriptions, and the words that they name."""

    descriptions: tuple[Description, ...]
    guesses: tuple[Guess, ...]
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are read, and a description of each is written for each layer by both models."""
    now = pace(context.subject)
    rows = len(input.prompts) * (len(input.layers) or 3)
    return (1 + has_base(context)) * (now.writing(rows, 35, input.tokens) + now.token * 60 * len(input.prompts))


@tool(version=1, estimate=estimate)
def patchscope(input: Input, context: Context) -> Output:
    """Puts a prompt's hidden state in place of the last token of a text of descriptions, and lets the model go on.

    What it writes is its own account of that state; beside it stand those of random vectors as long and of the base
    model's state. Source: Patchscopes, Ghandeharioun et al. 2401.06102.
    """
    subject = context.subject
    third = subject.n_layers // 6
    layers = check_layers(subject, input.layers or [subject.n_layers - third * k for k in (1, 2, 3)])
    check_layers(subject, [input.into])
    prompts = encode(subject, input.prompts, input.chat)
    (target,) = encode(subject, [input.target], room=input.tokens + 1)
    begins = subject.tokenize([GOES_ON])[0]
    if len(target) < 2:
        raise ToolError("The target has no token to put the hidden state in: give at least two words.")

    def described(model: Subject) -> list[str]:
        return describe(model, states(model, prompts, layers), input.into, target, begins, input.tokens)

    own, base = both(context, described)
    others: Sequence[str | None] = [None] * len(own) if base is None else base
    places = [(prompt, layer) for prompt in input.prompts for layer in layers]
    descriptions = tuple(
        Description(prompt=prompt, layer=layer, text=text, base=other)
        for (prompt, layer), text, other in zip(places, own, others, strict=True)
    )
    rng = context.rng("patchscope", input.model_dump_json())
    size = float(states(subject, prompts[:1], layers).norm(dim=1).median())
    drawn = torch.stack([random_direction(subject, int(seed)) for seed in rng.integers(2**31, size=len(layers))])
    at_random = describe(subject, size * drawn, input.into, target, begins, input.tokens)
    (unpatched,) = describe(subject, None, input.into, target, begins, input.tokens)
    idle = {word for text in (input.target, unpatched, *at_random, *input.prompts) for word in content_words(text)}

    def named(text: str) -> dict[str, float]:
        return {word: 1.0 for word in content_words(text) if word not in idle}

    theirs: list[dict[str, float] | None] = [None] * len(own) if base is None else [named(text) for text in base]
    items = [Item("patchscope", named(text), other) for text, other in zip(own, theirs, strict=True)]
    guesses = pooled(items, idle, rng, input.n)
    turned = [] if base is None else pooled([Item("", item.base or {}, item.named) for item in items], idle, rng, 1)
    clear = any(guess.stands for guess in guesses)
    verdict = "names nothing" if not guesses else f"names {guesses[0].word!r} in {guesses[0].share:.0%} of {len(own)}"
    if base is None:
        verdict += "; there is no base model to compare with"
    elif guesses:
        verdict += f" descriptions, the base model in {guesses[0].base:.0%} of its own"
    return Output(
        descriptions=descriptions,
        guesses=tuple(guesses),
        controls=Controls(unpatched=unpatched, random=tuple(at_random), base_guess=turned[0].word if turned else None),
        clear=clear,
        verdict=f"{verdict}; random vectors {at_random[0]!r}: {'clear' if clear else 'not clear'} of its controls",
    )


def states(subject: Subject, prompts: list[list[int]], layers: list[int]) -> Tensor:
    """float32[prompts * layers, d_model]: the residual stream entering each layer at each prompt's last token."""
    found = torch.zeros(len(prompts), len(layers), subject.d_model)
    for indices, tokens in alike(prompts):
        found[indices] = subject.residuals(tokens)[layers, :, -1].movedim(0, 1).cpu()
    return found.flatten(0, 1)


def describe(
    subject: Subject, vectors: Tensor | None, into: int, target: list[int], begins: list[int], n: int
) -> list[str]:
    """What follows the target when each vector [rows, d_model] stands at its last token where layer `into` begins, and
    `begins` comes next; None: the target as it is, one row."""
    rows = 1 if vectors is None else len(vectors)
    at = len(target) - 1
    found: list[str] = []
    for start in range(0, rows, ROWS):
        some = None if vectors is None else vectors[start : start + ROWS]

        def put(value: Tensor, some: Tensor | None = some) -> Tensor:
            if some is None or value.shape[1] <= at:
                return value
            value = value.clone()
            value[:, at] = some.to(value)
            return value

        tokens = torch.tensor([[*target, *begins]] * (1 if some is None else len(some)))
        text = generate(subject, tokens, n, also=[(f"blocks.{into}.hook_resid_pre", put)])
        for ids in text[:, tokens.shape[1] :].tolist():
            found.append(subject.tokenizer.decode(ids[: ids.index(subject.eos)] if subject.eos in ids else ids))
    return found
