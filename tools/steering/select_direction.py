"""Selects the direction that mediates a behaviour, such as refusing, among those of many layers and positions."""

from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import RANDOMS, along, along_random, interval, stands_clear, told
from tools.workbench.context import Context
from tools.workbench.costs import EVERYWHERE, pace
from tools.workbench.directions import Direction
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.metrics import Metric, Texts, Words, alike, divergence, encode, observe, observe_each
from tools.workbench.peers import active_latent
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool

VALIDATION = 0.3  # of the prompts of each kind: graded on; the others make the means
LEAST = 8  # prompts of each kind


class Input(ToolInput):
    """Prompts that show the behaviour and prompts that do not, and the tokens by which it begins."""

    showing: Texts = Field(description="such as harmful requests, which the model refuses")
    other: Texts = Field(description="such as harmless ones")
    tokens: Words = Field(description="first tokens of the behaviour, such as 'I' and 'Sorry'")
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = Field(
        None, description="None: every one"
    )
    positions: Annotated[tuple[Annotated[int, Field(lt=0)], ...], Field(min_length=1, max_length=8)] = Field(
        (-1,), description="tokens counted from the prompt's end: those after the instruction"
    )
    chat: bool = True
    most_kl: float = Field(0.1, gt=0, description="nats, on the other prompts, of ablating")
    least_induced: float = Field(0.0, description="log-odds on the other prompts after adding")
    depth: float = Field(0.8, gt=0, le=1, description="share of the layers that candidates may come from")
    ablate_to: Literal["zero", "other"] = Field(
        "zero",
        description="zero: project out wherever it is read; other: set to the other prompts' mean, layer by layer",
    )
    include_sinks: bool = Field(False, description="as the paper does; sparing them disturbs the model less")


class Candidate(ToolOutput):
    """A mean difference and its grades. bypassed: mean log-odds of the behaviour on showing prompts with the direction
    ablated everywhere; induced: on the others with it added at its layer; kl: nats, on the others, of ablating."""

    layer: int
    position: int
    norm: float
    bypassed: float
    induced: float
    kl: float
    failed: tuple[str, ...] = Field(description="filters that it does not pass")


class Controls(ToolOutput):
    """Log-odds without an edit, and with random directions and another active latent's in the place of the best
    candidates': what ablating removes at each place written along them instead, and added with equal norm. norm: mean
    length of a change by ablation, of the direction and of the random ones."""

    no_edit_showing: float
    no_edit_other: float
    random_ablated: tuple[float, ...]
    random_added: tuple[float, ...]
    active_ablated: float
    active_added: float
    active: str
    norm: tuple[float, float]


class Output(ToolOutput):
    """The selected direction's saved name, or None and the reason. best_ablated and best_added: the saved candidates
    that move the log-odds most, whether or not they pass. clear: both move it by more than their controls and chance
    over prompts; that they are the best of many candidates is not allowed for."""

    direction: str | None
    reason: str
    candidates: tuple[Candidate, ...]
    best_ablated: str
    best_added: str
    ablated: float = Field(description="change of the log-odds on showing prompts by ablating best_ablated")
    added: float = Field(description="change of the log-odds on the others by adding best_added")
    controls: Controls
    clear: bool
    verdict: str


class Graded(NamedTuple):
    """A candidate, its direction, and the changes of the log-odds that ablating it makes on each held-out showing
    prompt, and adding it on each of the others."""

    candidate: Candidate
    direction: Direction
    lost: np.ndarray
    gained: np.ndarray


def estimate(input: Input, context: Context) -> float:
    """Seconds: two conditions on the others and one on the showing prompts for every candidate."""
    now = pace(context.subject)

    def reading(texts: Texts, share: float) -> float:
        some = texts[: max(2, round(share * len(texts)))]
        return now.reading(context.subject, some, input.chat)

    n = len(input.layers or range(context.subject.n_layers)) * len(input.positions) + RANDOMS + 1
    showing, other = (reading(texts, VALIDATION) for texts in (input.showing, input.other))
    whole = reading(input.showing, 1) + reading(input.other, 1)
    return whole + n * (EVERYWHERE * (showing + other) + other)


@tool(version=3, estimate=estimate)
def select_direction(input: Input, context: Context) -> Output:
    """Finds the single direction that mediates a behaviour: ablating it bypasses the behaviour, adding it induces it.

    Candidates are mean differences at each layer and position; filters ask that ablating disturbs other prompts little
    and that adding induces the behaviour. "None passed, because" is an answer. Source: Arditi et al. 2406.11717. Where
    0 is not a neutral projection, ablate to the other prompts' mean (refusal as an affine function, 2411.09003).
    """
    subject = context.subject
    layers = input.layers or tuple(range(subject.n_layers))
    if max(layers) >= subject.n_layers:
        raise ToolError(f"Layer {max(layers)} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    rng = context.rng("select_direction", input.model_dump_json())
    showing, showing_held = _split(encode(subject, input.showing, input.chat), rng)
    other, other_held = _split(encode(subject, input.other, input.chat), rng)
    metric = Metric(kind="log_odds", up=input.tokens)
    plain_showing = observe(context, showing_held, metric).values
    plain = observe(context, other_held, metric)

    everywhere = tuple(range(subject.n_layers))
    neutral = _means(context, other, everywhere, input.positions)  # [n_layers, positions, d_model]

    def ablation(vector: Tensor, first: int, column: int) -> list[Change]:
        edit = Edit(
            operation="ablate", direction=tuple(vector.tolist()), layers="all", include_sinks=input.include_sinks
        )
        if input.ablate_to == "zero":
            return prepare(subject, [edit], context.directions)
        centres = (neutral[:, column] @ _unit(vector.double())).tolist()
        edits = [edit.model_copy(update={"layers": (k,), "centre": centres[k]}) for k in everywhere[first:]]
        return prepare(subject, edits, context.directions)

    def adding(vector: Tensor, layer: int) -> list[Change]:
        edit = Edit(
            operation="add",
            direction=tuple(vector.tolist()),
            layers=(layer,),
            strength=float(vector.norm()),
            include_sinks=input.include_sinks,
        )
        return prepare(subject, [edit], context.directions)

    graded: list[Graded] = []
    differences = _means(context, showing, layers, input.positions) - neutral[list(layers)]
    for layer, row in zip(layers, differences.float(), strict=True):
        for column, (position, vector) in enumerate(zip(input.positions, row, strict=True)):
            norm = float(vector.norm())
            if not norm:
                continue
            disturbed = observe(context, other_held, metric, ablation(vector, layer, column)).log_probabilities
            kl = float(divergence(plain.log_probabilities, disturbed).mean())
            lost = observe(context, showing_held, metric, ablation(vector, layer, column)).values - plain_showing
            gained = observe(context, other_held, metric, adding(vector, layer)).values - plain.values
            induced = float((plain.values + gained).mean())
            failed = [
                name
                for name, fails in (
                    ("kl", kl >= input.most_kl),
                    ("induced", induced <= input.least_induced),
                    ("depth", layer >= input.depth * subject.n_layers),
                )
                if fails
            ]
            candidate = Candidate(
                layer=layer,
                position=position,
                norm=norm,
                bypassed=float((plain_showing + lost).mean()),
                induced=induced,
                kl=kl,
                failed=tuple(failed),
            )
            hook = f"blocks.{layer}.hook_resid_pre"
            direction = Direction(vector / norm, subject.name, hook, "select_direction", norm)
            graded.append(Graded(candidate, direction, lost, gained))
    if not graded:
        raise ToolError("The two kinds of prompts do not differ at those positions: name others.")
    chosen = min((g for g in graded if not g.candidate.failed), key=lambda g: g.candidate.bypassed, default=None)
    bypass = min(graded, key=lambda g: g.candidate.bypassed)
    induce = max(graded, key=lambda g: g.candidate.induced)
    norm, layer = induce.candidate.norm, induce.candidate.layer
    site = bypass.candidate.layer, input.positions.index(bypass.candidate.position)
    index = active_latent(context, other_held, rng)
    decoder = _unit(subject.dictionary.decoder[index].float())
    removing, inducing = ablation(bypass.direction.vector, *site), adding(induce.direction.vector * norm, layer)
    removed = observe(context, showing_held, metric, removing)
    taken = observe_each(context, showing_held, metric, along_random(context, removing, rng))
    taken += observe_each(context, showing_held, metric, along(removing, decoder))
    given = observe_each(context, other_held, metric, along_random(context, inducing, rng))
    given += observe_each(context, other_held, metric, along(inducing, decoder))
    idle_lost = [each.values - plain_showing for each in taken]
    idle_gained = [each.values - plain.values for each in given]
    *random_ablated, active_ablated = (float((plain_showing + lost).mean()) for lost in idle_lost)
    *random_added, active_added = (float((plain.values + gained).mean()) for gained in idle_gained)
    controls = Controls(
        no_edit_showing=float(plain_showing.mean()),
        no_edit_other=float(plain.values.mean()),
        random_ablated=tuple(random_ablated),
        random_added=tuple(random_added),
        active_ablated=active_ablated,
        active_added=active_added,
        active=f"latent {index}",
        norm=(removed.norm, taken[0].norm),
    )
    lost, gained = float(bypass.lost.mean()), float(induce.gained.mean())
    clear = lost < 0 < gained and stands_clear(bypass.lost, idle_lost) and stands_clear(induce.gained, idle_gained)
    reason = _reason([each.candidate for each in graded], chosen.candidate if chosen else None)
    verdict = (
        f"{reason}. Ablating layer {bypass.candidate.layer}'s direction changes the log-odds on showing prompts by "
        f"{told(lost, *interval(bypass.lost))} (a token moved by {removed.norm:.3g} at each of {len(removing)} places; "
        f"controls, by {taken[0].norm:.3g}, at most {_most(idle_lost):.3g}), adding layer {layer}'s those "
        f"on the others by {told(gained, *interval(induce.gained))} (controls at most {_most(idle_gained):.3g}): "
        f"{'clear' if clear else 'not clear'} of the controls"
    )
    return Output(
        direction=context.directions.save(chosen.direction) if chosen else None,
        reason=reason,
        candidates=tuple(each.candidate for each in graded),
        best_ablated=context.directions.save(bypass.direction),
        best_added=context.directions.save(induce.direction),
        ablated=lost,
        added=gained,
        controls=controls,
        clear=clear,
        verdict=verdict,
    )


def _reason(candidates: list[Candidate], chosen: Candidate | None) -> str:
    if chosen is not None:
        return f"selected layer {chosen.layer}, position {chosen.position}: of those that pass it bypasses most"
    counts = {name: sum(name in c.failed for c in candidates) for name in ("kl", "induced", "depth")}
    told = {
        "kl": "disturb other prompts too much",
        "induced": "do not induce the behaviour when added",
        "depth": "lie too close to the output",
    }
    faults = ", ".join(f"{n} {told[name]}" for name, n in counts.items() if n)
    return f"none of the {len(candidates)} candidates passed, because {faults}"


def _most(changes: list[np.ndarray]) -> float:
    return max(abs(float(change.mean())) for change in changes)


def _split(prompts: list[list[int]], rng: np.random.Generator) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts for the means, and prompts to be graded on. ToolError when there are too few."""
    if len(prompts) < LEAST:
        raise ToolError(f"There are {len(prompts)} prompts of one kind: give at least {LEAST}.")
    order = rng.permutation(len(prompts)).tolist()
    held = max(2, round(VALIDATION * len(prompts)))
    return [prompts[i] for i in order[held:]], [prompts[i] for i in order[:held]]


def _means(context: Context, prompts: list[list[int]], layers: tuple[int, ...], positions: tuple[int, ...]) -> Tensor:
    """float64[layers, positions, d_model], on the CPU. ToolError for a position that a prompt does not have."""
    total = torch.zeros(len(layers), len(positions), context.subject.d_model, dtype=torch.float64)
    for _, tokens in alike(prompts):
        if tokens.shape[1] <= -min(positions):
            raise ToolError(f"Position {min(positions)} does not exist: a prompt has {tokens.shape[1]} tokens.")
        residuals = context.subject.residuals(tokens)
        total += residuals[list(layers)][:, :, list(positions)].double().sum(1).cpu()
    return total / len(prompts)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit
