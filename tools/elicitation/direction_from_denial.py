"""The direction between being asked for what is hidden and being asked for something else, saved."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from tools.workbench.attacks import QUESTIONS, WRAPPINGS, questions
from tools.workbench.beside import both, has_base
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.directions import Direction
from tools.workbench.estimators import Probe
from tools.workbench.lens import check_layers
from tools.workbench.metrics import alike
from tools.workbench.probes import Held, fit, held_out
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

OTHERS = (
    "the capital of Spain", "a good book", "the colour of the sky", "the name of a river", "the time", "a short recipe",
    "the price of bread", "the name of a tree", "a kind of cheese", "the weather in May", "a word for a house",
    "the number of planets", "a song for children", "the way to the station", "an old saying", "a warm country",
    "the largest animal", "a tool of a carpenter", "the first month", "a sport with a ball",
)  # fmt: skip
FRAMES = tuple(frame for frame in (*QUESTIONS, *WRAPPINGS) if "{}" in frame)
HELD_OUT = 0.3
ALIKE = 0.9  # cosine of two models' directions that are one
FITS = 0.5  # seconds of the fits and their baselines


class Input(ToolInput):
    """What is asked for, what is asked for instead, and the layer whose input is read at the reply's beginning."""

    topic: Annotated[str, Field(min_length=1, max_length=200)] = "the secret word"
    others: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(OTHERS, min_length=2, max_length=64)
    layer: int | None = Field(None, ge=0, description="residual stream entering it; by default two thirds up")


class Controls(ToolOutput):
    """AUROC on the same held-out prompts of the same method on shuffled labels and of random directions; base: of the
    base model's own direction on its own activations, and its cosine with this one (None: no base model). A base model
    that tells the prompts apart as well tells them apart by their words."""

    shuffled: float
    random_direction: float
    base: float | None
    base_cosine: float | None


class Output(ToolOutput):
    """The saved direction, which steer and ablate take: from other questions to the one that is denied. norm: distance
    between the two along it, base_norm: in the base model; auroc: on held-out prompts, with its 95 % interval."""

    direction: str
    hook: str
    norm: float
    base_norm: float | None
    auroc: float
    low: float
    high: float
    n: int = Field(description="held-out prompts")
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: every prompt is read by both models, then the fits."""
    now = pace(context.subject)
    return FITS + (1 + has_base(context)) * 2 * len(FRAMES) * (now.start / 4 + now.token * 2 * CHAT)


@tool(version=2, estimate=estimate)
def direction_from_denial(input: Input, context: Context) -> Output:
    """Finds and saves the direction along which being asked for the secret differs from being asked for other things.

    Same frames, other topics; mean difference at the last token before the reply. Take it away (ablate, or steer with a
    negative strength) and ask again: a denial that hangs on it goes. As in Arditi et al. 2406.11717.
    """
    subject = context.subject
    layer = round(2 * subject.n_layers / 3) if input.layer is None else input.layer
    check_layers(subject, [layer])
    hook = f"blocks.{layer}.hook_resid_pre"
    others = [input.others[i % len(input.others)] for i in range(len(FRAMES))]
    asked = [questions(subject, input.topic, [frame])[0].ids for frame in FRAMES]
    idle = [questions(subject, topic, [frame])[0].ids for topic, frame in zip(others, FRAMES, strict=True)]
    prompts = [*asked, *idle]
    positive = np.arange(len(prompts)) < len(asked)
    rng = context.rng("direction_from_denial", input.model_dump_json())
    frame = np.arange(len(prompts)) % len(FRAMES)
    test = np.isin(frame, rng.permutation(len(FRAMES))[: round(HELD_OUT * len(FRAMES))])  # both prompts of a frame
    own, base = both(context, lambda model: _last(model, hook, prompts))
    probe, held = _graded(own, positive, test, rng)
    other = None if base is None else _graded(base, positive, test, rng)
    cosine = None if other is None else float(probe.vector @ other[0].vector)
    direction = Direction(
        vector=torch.tensor(probe.vector, dtype=torch.float32),
        model=subject.name,
        hook=hook,
        method="direction_from_denial",
        norm=probe.norm,
        centre=probe.centre,
    )
    by_words = cosine is not None and cosine > ALIKE
    clear = held.own.low > max(0.5, held.shuffled, held.random) and not by_words
    return Output(
        direction=context.directions.save(direction),
        hook=hook,
        norm=probe.norm,
        base_norm=None if other is None else other[0].norm,
        auroc=held.own.value,
        low=held.own.low,
        high=held.own.high,
        n=int(test.sum()),
        controls=Controls(
            shuffled=held.shuffled,
            random_direction=held.random,
            base=None if other is None else other[1].own.value,
            base_cosine=cosine,
        ),
        clear=clear,
        verdict=(
            f"separates {int(test.sum())} held-out prompts with an AUROC of {held.own.value:.2f} [{held.own.low:.2f}, "
            f"{held.own.high:.2f}]; shuffled labels {held.shuffled:.2f}, random directions {held.random:.2f}"
            + ("" if other is None else f", the base model's own {other[1].own.value:.2f} (cosine {cosine:.2f})")
            + (", so that the words of the prompts make it" if by_words else "")
            + f": {'clear' if clear else 'not clear'} of its controls"
        ),
    )


def _graded(x: np.ndarray, positive: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> tuple[Probe, Held]:
    """The mean difference of activations x [n, d] outside of `test`, and its grade there."""
    probe = fit("mean_difference", x[~test], positive[~test], 0)
    return probe, held_out("mean_difference", probe, (x[~test], positive[~test]), (x[test], positive[test]), rng)


def _last(subject: Subject, hook: str, prompts: list[list[int]]) -> np.ndarray:
    """float64[n, d_model]: at each prompt's last token."""
    found = torch.zeros(len(prompts), subject.d_model, dtype=torch.float64)
    for indices, tokens in alike(prompts):
        found[indices] = subject.value_at(hook, tokens)[:, -1].double().cpu()
    return found.numpy()
