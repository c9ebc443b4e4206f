"""Builds a steering vector that raises one latent in what the model writes, and others as little as can be."""

import numpy as np
import torch
from pydantic import Field

from tools.workbench.causal import along_random, interval, stands_clear
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.doses import at_cost
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.effects import PROMPT, fit, starts, targeted, written_latents
from tools.workbench.examples import need_firings
from tools.workbench.negatives import decoder_cosines
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool

NEIGHBOURS = 0.25  # share of the vectors that are the nearest latents' directions; the others are random latents'


class Input(ToolInput):
    """The latent to raise, and how many vectors of how many samples to learn from."""

    latent: int
    vectors: int = Field(96, ge=4, le=4096, description="whose effects are measured; the paper takes 50,000")
    cost: float = Field(0.5, gt=0, le=4, description="increase of cross-entropy on plain text, nats a token")
    prompts: int = Field(8, ge=4, le=64)
    tokens: int = Field(16, ge=8, le=128, description="written after each prompt")
    side: float = Field(1.0, ge=0, le=4, description="how much of what every vector does to take out")


class Outcome(ToolOutput):
    """At the stated cost, on fresh prompts: change of the latent's mean activation, length of the change of all other
    latents, and the first over the second."""

    strength: float
    target: float
    others: float
    ratio: float


class Controls(ToolOutput):
    """The latent's decoder direction, a random direction and another active latent's at equal cost; chance alone; and
    the fit's leave-one-out R2 with vectors and effects paired at random."""

    decoder: Outcome
    random_direction: Outcome
    random_active: Outcome
    other: str
    no_edit: Outcome
    shuffled_r2: float


class Output(ToolOutput):
    """The saved vector's name, how well effects could be predicted (leave-one-out R2), and what it does."""

    direction: str
    cosine: float = Field(description="with the latent's decoder direction")
    r2: float
    found: Outcome
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: for every vector the search for its strength and one sample."""
    now = pace(context.subject)
    return (input.vectors + 6) * (now.search + now.sampling(input.prompts, PROMPT, input.tokens))


@tool(version=2, estimate=estimate)
def sae_ts_vector(input: Input, context: Context) -> Output:
    """Learns what steering does to a text's latents, and solves for a vector that raises this one and few others.

    Slow: it steers with many vectors first. Compare its ratio with the decoder direction's, which is the plain choice.
    Source: SAE-Targeted Steering, Chalnev et al. 2411.02193.
    """
    subject = context.subject
    latent = subject.latent(input.latent)
    need_firings(context.need_harvest(), input.latent)
    rng = context.rng("sae_ts_vector", input.model_dump_json())
    seed = int(rng.integers(2**30))
    prompts = starts(context, input.prompts, rng)
    rows = _rows(context, input, rng)
    decoder = subject.dictionary.decoder.float()
    before = written_latents(context, prompts, [], input.tokens, seed).mean(0)
    x, y = [], []
    for row in rows:
        edit = Edit(operation="add", latent=row, strength=0.0)
        change, _ = at_cost(subject, prepare(subject, [edit], context.directions)[0], input.cost)
        after = written_latents(context, prompts, [change], input.tokens, seed).mean(0)
        x.append(decoder[row].cpu().double().numpy() * change.strength)
        y.append(after - before)
    vectors, effects = np.stack(x), np.stack(y)
    linear = fit(vectors, effects)
    shuffled = fit(vectors, effects[rng.permutation(len(effects))]).r2
    try:
        unit = torch.tensor(targeted(linear, input.latent, input.side), dtype=torch.float32)
    except ValueError as error:
        raise ToolError(f"There is nothing to build from: {error}; take more vectors, prompts or tokens.") from None
    name = context.directions.save(Direction(unit, subject.name, subject.hook, f"sae_ts_vector {latent}"))
    fresh = starts(context, input.prompts, rng)
    plain = written_latents(context, fresh, [], input.tokens, seed + 1)

    def outcome(edit: Edit | None, random: bool = False) -> tuple[Outcome, np.ndarray]:
        """What the edit does, and each prompt's part in its ratio [prompts], whose mean the ratio is."""
        strength = 0.0
        changes = []
        if edit is not None:
            changes = prepare(subject, [edit], context.directions)
            changes = along_random(context, changes, rng, 1) if random else changes
            change, _ = at_cost(subject, changes[0], input.cost)
            changes, strength = [change], change.strength
        after = written_latents(context, fresh, changes, input.tokens, seed + (2 if edit is None else 1))
        moved = after - plain
        own = moved[:, input.latent]
        others = float(np.linalg.norm(np.delete(moved.mean(0), input.latent)))
        ratios = own / others if others else np.zeros(len(own))
        return Outcome(strength=strength, target=float(own.mean()), others=others, ratio=float(ratios.mean())), ratios

    own = Edit(operation="add", latent=input.latent, strength=0.0)
    other = rows[-1]
    found, ratios = outcome(Edit(operation="add", direction=name, strength=0.0))
    by_decoder, decoder_ratios = outcome(own)
    at_random, random_ratios = outcome(own, random=True)
    beside, other_ratios = outcome(Edit(operation="add", latent=other, strength=0.0))
    nothing, idle_ratios = outcome(None)
    controls = Controls(
        decoder=by_decoder,
        random_direction=at_random,
        random_active=beside,
        other=f"latent {other}",
        no_edit=nothing,
        shuffled_r2=shuffled,
    )
    idle = max(each.ratio for each in (at_random, beside, nothing))
    clear = found.target > 0 and stands_clear(ratios, [random_ratios, other_ratios, idle_ratios])
    gain = interval(ratios - decoder_ratios)[0]
    better = "better than" if gain is not None and gain > 0 else "not clearly better than"
    verdict = (
        f"raises the latent by {found.target:+.3g} for {found.others:.3g} of change in all others, ratio "
        f"{found.ratio:.3g}, {better} its decoder direction's {controls.decoder.ratio:.3g}; controls at most "
        f"{idle:.3g}: {'clear' if clear else 'not clear'} of them. "
        f"The fit's R2 is {linear.r2:.2f}, {shuffled:.2f} when shuffled"
    )
    cosine = float(torch.nn.functional.cosine_similarity(unit, decoder[input.latent].cpu(), dim=0))
    return Output(
        direction=name, cosine=cosine, r2=linear.r2, found=found, controls=controls, clear=clear, verdict=verdict
    )


def _rows(context: Context, input: Input, rng: np.random.Generator) -> list[int]:
    """The latents whose directions are learnt from: this one, its nearest, and random ones that fire."""
    nearest = np.argsort(-decoder_cosines(context.subject, input.latent))
    near = nearest[: max(1, round(NEIGHBOURS * input.vectors))].tolist()
    firing = context.need_harvest().stats().count.nonzero()[0]
    others = [int(i) for i in rng.permutation(firing) if int(i) not in set(near)]
    rows = [int(i) for i in near] + others[: input.vectors - len(near)]
    if len(rows) < input.vectors:
        raise ToolError(f"Only {len(rows)} latents fire in this harvest: harvest more text, or ask for fewer vectors.")
    return rows
