"""Finds the direction along which two kinds of text differ in the residual stream, and saves it."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.metrics import Texts, alike, encode
from tools.workbench.probes import Method, fit, held_out
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.stats import auroc

HELD_OUT = 0.3  # of each class
LEAST = 4  # texts of each class
FITS = 0.5  # seconds of the fits and their baselines


class Input(ToolInput):
    """Texts of two kinds, where to read them and how. pca and kmeans are not told which text is of which kind."""

    positive: Texts
    negative: Texts
    method: Method = "mean_difference"
    layer: int | None = Field(None, ge=0, description="residual stream entering it; None: where the dictionary reads")
    position: Literal["mean"] | int = Field(-1, description="token to read, -1 the last, or the mean over tokens")
    chat: bool = False


class Controls(ToolOutput):
    """AUROC of what needs no such direction, on the same held-out texts: the same method on shuffled labels, random
    directions, the best single coordinate, the best single latent (None away from the dictionary's hook point), and a
    logistic probe on the whole activation, which no direction has to beat but which says what there is to be found."""

    shuffled: float
    random_direction: float
    best_coordinate: float
    best_latent: float | None
    best_latent_index: int | None
    logistic: float


class Output(ToolOutput):
    """The saved direction's name for other tools. norm: distance between the two kinds along it, a natural strength for
    adding it; centre: the projection halfway. auroc: on the held-out texts, with its 95 % interval."""

    direction: str
    hook: str
    norm: float
    centre: float
    auroc: float
    low: float
    high: float
    n: int = Field(description="held-out texts")
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: every text is read once, then the fits and their baselines."""
    return FITS + pace(context.subject).reading(context.subject, [*input.positive, *input.negative], input.chat)


@tool(version=1, estimate=estimate)
def find_direction(input: Input, context: Context) -> Output:
    """Finds and saves the direction that tells two kinds of text apart: mean difference, logistic, PCA or k-means.

    Graded on a third of the texts that it was not fitted on, beside baselines. That a direction separates does not mean
    that the model uses it: test that with flip_projection, ablate or dose_response. With few-shot prompts against
    zero-shot ones, the mean difference at the last token is a task vector (Hendel et al. 2310.15916).
    """
    subject = context.subject
    n_positive, n_negative = len(input.positive), len(input.negative)
    if min(n_positive, n_negative) < LEAST:
        raise ToolError(f"There are {n_positive} positive and {n_negative} negative texts: give {LEAST} of each.")
    if input.layer is not None and input.layer >= subject.n_layers:
        raise ToolError(f"Layer {input.layer} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    hook = subject.hook if input.layer is None else f"blocks.{input.layer}.hook_resid_pre"
    prompts = encode(subject, [*input.positive, *input.negative], input.chat)
    activations, latents = _read(context, hook, prompts, input.position)
    positive = np.arange(len(prompts)) < n_positive
    rng = context.rng("find_direction", input.model_dump_json())
    test = np.zeros(len(prompts), bool)
    for members in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        test[rng.permutation(members)[: max(2, round(HELD_OUT * len(members)))]] = True
    x = activations.numpy().astype(np.float64)
    if not x[~test].std(0).any():
        raise ToolError("The texts do not differ at that position: read another, or the mean.")
    probe = fit(input.method, x[~test], positive[~test], int(rng.integers(2**31)))
    held = held_out(input.method, probe, (x[~test], positive[~test]), (x[test], positive[test]), rng)
    best, index = _best_latent(latents, positive, test)
    direction = Direction(
        vector=torch.tensor(probe.vector, dtype=torch.float32),
        model=subject.name,
        hook=hook,
        method=f"find_direction {input.method}",
        norm=probe.norm,
        centre=probe.centre,
        slope=probe.slope,
    )
    clear = held.own.low > max(held.shuffled, 0.5) and held.own.value > held.random
    verdict = (
        f"separates {int(test.sum())} held-out texts with an AUROC of {held.own.value:.2f} [{held.own.low:.2f}, "
        f"{held.own.high:.2f}]; shuffled labels {held.shuffled:.2f}, random directions {held.random:.2f}, the best "
        f"coordinate {held.coordinate:.2f}{'' if best is None else f', latent {index} {best:.2f}'}, a probe "
        f"{held.logistic:.2f}: {'clear' if clear else 'not clear'} of its controls"
    )
    return Output(
        direction=context.directions.save(direction),
        hook=hook,
        norm=probe.norm,
        centre=probe.centre,
        auroc=held.own.value,
        low=held.own.low,
        high=held.own.high,
        n=int(test.sum()),
        controls=Controls(
            shuffled=held.shuffled,
            random_direction=held.random,
            best_coordinate=held.coordinate,
            best_latent=best,
            best_latent_index=index,
            logistic=held.logistic,
        ),
        clear=clear,
        verdict=verdict,
    )


def _read(
    context: Context, hook: str, prompts: list[list[int]], position: Literal["mean"] | int
) -> tuple[torch.Tensor, np.ndarray | None]:
    """float32[n, d_model] of each prompt, and its latents float32[n, n_latents] where the dictionary reads there."""
    subject = context.subject
    found = torch.zeros(len(prompts), subject.d_model)
    for indices, tokens in alike(prompts):
        value = subject.value_at(hook, tokens).float()
        if position == "mean":
            kept = ~subject.sinks(value, subject.layer_norms[subject.layer_of(hook)])
            read = (value * kept[..., None]).sum(1) / kept.sum(1, keepdim=True).clamp(min=1)
        else:
            if not -tokens.shape[1] <= position < tokens.shape[1] or position % tokens.shape[1] == 0:
                raise ToolError(f"Position {position} is no token of a text of {tokens.shape[1]} tokens, BOS being 0.")
            read = value[:, position]
        found[indices] = read.cpu()
    if hook != subject.hook:
        return found, None
    return found, subject.dictionary.encode(found.to(subject.device)).float().cpu().numpy()


def _best_latent(latents: np.ndarray | None, positive: np.ndarray, test: np.ndarray) -> tuple[float | None, int | None]:
    """Held-out AUROC of the latent whose mean differs most on the other texts (Kantamneni et al. 2502.16681)."""
    if latents is None:
        return None, None
    gap = latents[~test & positive].mean(0) - latents[~test & ~positive].mean(0)
    index = int(np.abs(gap).argmax())
    scores = latents[:, index] * np.sign(gap[index])
    return auroc(scores[test & positive], scores[test & ~positive]), index
