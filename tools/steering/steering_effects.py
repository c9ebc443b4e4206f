"""Which latents fire in the text that steering makes the model write."""

import numpy as np
from pydantic import Field

from tools.workbench.causal import RANDOMS, along_random, interval, peer, said, stands_clear, told
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.doses import at_cost, misses
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit, Target
from tools.workbench.effects import PROMPT, starts, written_each
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool


class Input(ToolInput):
    """What to steer with, how hard, and how much to write after how many beginnings of harvested documents."""

    target: Target = Field(description="a latent, direction or neuron")
    cost: float = Field(0.5, gt=0, le=4, description="increase of cross-entropy on plain text, nats a token")
    prompts: int = Field(16, ge=4, le=64)
    tokens: int = Field(24, ge=8, le=128, description="written after each prompt")
    n: int = Field(10, ge=1, le=50, description="latents to list of each sign")


class LatentEffect(ToolOutput):
    """Change of a latent's mean activation on what is written, dictionary units, with a 95 % interval over prompts."""

    latent: int
    before: float
    change: float
    low: float | None
    high: float | None


class Controls(ToolOutput):
    """Length of the change over all latents, and the change of the target's own latent, unedited with other random
    numbers, with random directions and with another active unit, all as strong. random_direction: the one that moves
    them most; randoms: the length of each. own: None where no latent is steered."""

    no_edit: float
    random_direction: float
    randoms: tuple[float, ...]
    random_active: float
    own_no_edit: float | None
    own_random_direction: float | None
    own_random_active: float | None
    other: str


class Output(ToolOutput):
    """The latents that steering raises and lowers most, and the length of the whole change beside its controls."""

    strength: float
    cost: float
    size: float
    own: LatentEffect | None
    raised: tuple[LatentEffect, ...]
    lowered: tuple[LatentEffect, ...]
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the search for the strength, then a sample for each condition."""
    now = pace(context.subject)
    samples = 4 * now.sampling(input.prompts, PROMPT, input.tokens)
    return now.search + samples + now.sampling(RANDOMS * input.prompts, PROMPT, input.tokens)


@tool(version=2, estimate=estimate)
def steering_effects(input: Input, context: Context) -> Output:
    """Measures what steering does to every latent of the text that the model then writes, at a stated cost.

    A latent's direction often raises other latents more than its own. The texts are read without the edit.
    sae_ts_vector builds a vector from such effects. Source: Chalnev et al. 2411.02193.
    """
    subject = context.subject
    if input.target.kind == "head":
        raise ToolError("A head has no direction to add: give a latent, a direction or a neuron.")
    edit = Edit.of(input.target, "add", 0.0)
    rng = context.rng("steering_effects", input.model_dump_json())
    (change, *more) = prepare(subject, [edit], context.directions)
    if more:
        raise ToolError("A dose is for one layer: name one, or leave layers out.")
    prompts = starts(context, input.prompts, rng)
    steered, dose = at_cost(subject, change, input.cost)
    others, name = peer(context, edit, [steered], prompts.tolist(), rng)
    seed = int(rng.integers(2**30))
    (before,) = written_each(context, prompts, [], input.tokens, seed)

    def changed(changes: list[Change], seed: int = seed) -> list[np.ndarray]:
        return [each - before for each in written_each(context, prompts, changes, input.tokens, seed)]

    def size(each: np.ndarray) -> float:
        return float(np.linalg.norm(each.mean(0)))

    (own,), (idle,), (other,) = changed([steered]), changed([], seed + 1), changed(others)
    randoms = changed(along_random(context, [steered], rng))
    random = max(randoms, key=size)
    sizes = [size(each) for each in (own, idle, random, other)]
    index = input.target.latent
    mean = own.mean(0)

    def effect(latent: int) -> LatentEffect:
        low, high = interval(own[:, latent])
        return LatentEffect(
            latent=latent, before=float(before[:, latent].mean()), change=float(mean[latent]), low=low, high=high
        )

    order = np.argsort(-mean)
    lengths = [np.linalg.norm(each, axis=1) for each in (own, idle, other, *randoms)]
    clear = stands_clear(lengths[0], lengths[1:])
    mine = None if index is None else effect(index)
    at = [None if index is None else float(each[:, index].mean()) for each in (idle, random, other)]
    verdict = (
        f"moves the latents of the text by {sizes[0]:.3g} in all (chance alone {sizes[1]:.3g}, {RANDOMS} random "
        f"directions at most {sizes[2]:.3g}, {name} {sizes[3]:.3g})"
        + ("" if mine is None else f", its own by {told(mine.change, mine.low, mine.high)}")
        + f", most latent {order[0]} ({mean[order[0]]:+.3g}): {said(clear, input.prompts)}{misses([dose])}"
    )
    return Output(
        strength=steered.strength,
        cost=dose.increase,
        size=sizes[0],
        own=mine,
        raised=tuple(effect(int(i)) for i in order[: input.n] if mean[i] > 0),
        lowered=tuple(effect(int(i)) for i in order[::-1][: input.n] if mean[i] < 0),
        controls=Controls(
            no_edit=sizes[1],
            random_direction=sizes[2],
            randoms=tuple(size(each) for each in randoms),
            random_active=sizes[3],
            own_no_edit=at[0],
            own_random_direction=at[1],
            own_random_active=at[2],
            other=name,
        ),
        clear=clear,
        verdict=verdict,
    )
