"""A latent in numbers: how often and how strongly it fires, and on which tokens."""

import numpy as np
from pydantic import Field

from store.activations import Harvest
from tools.workbench.context import Context
from tools.workbench.examples import windows_of
from tools.workbench.registry import ToolInput, ToolOutput, tool

WINDOWS = 2000  # windows that tokens are counted in
SEEN = 3  # firings a token needs to be listed, when any has as many


class Input(ToolInput):
    """Which latent, and how many tokens to list."""

    latent: int
    n: int = Field(20, ge=1, le=200)


class TokenMean(ToolOutput):
    """A token, the latent's mean activation where it fires on it, and how often it does."""

    token: str
    mean: float
    count: int


class Bin(ToolOutput):
    """Firings with an activation from `low` up to `high`, dictionary units."""

    low: float
    high: float
    count: int


class Output(ToolOutput):
    """`density`: share of tokens fired on. `histogram`: from the first to the last bin that is not empty."""

    latent: str
    dead: bool
    count: int
    density: float
    max: float
    mean: float
    histogram: tuple[Bin, ...]
    top_tokens: tuple[TokenMean, ...] = Field(description="by mean activation, of tokens fired on three times or more")
    harvest_tokens: int


@tool(version=1)
def latent_profile(input: Input, context: Context) -> Output:
    """Gives a latent's density, the histogram of its activations, its maximum, and its strongest tokens."""
    subject, harvest = context.subject, context.need_harvest()
    latent = subject.latent(input.latent)
    stats = harvest.stats()
    count = int(stats.count[input.latent])
    bins = stats.histogram[input.latent]
    filled = np.flatnonzero(bins)
    shown = range(int(filled[0]), int(filled[-1]) + 1) if len(filled) else range(0)
    ids, means, counts = _by_token(harvest, input.latent, context.rng("latent_profile", input.latent), input.n)
    return Output(
        latent=str(latent),
        dead=count == 0,
        count=count,
        density=float(stats.density[input.latent]),
        max=float(stats.max[input.latent]),
        mean=float(stats.mean[input.latent]),
        histogram=tuple(Bin(low=stats.edges[i], high=stats.edges[i + 1], count=bins[i]) for i in shown),
        top_tokens=tuple(
            TokenMean(token=token, mean=mean, count=times)
            for token, mean, times in zip(subject.token_strings(ids), means, counts, strict=True)
        ),
        harvest_tokens=harvest.n_tokens,
    )


def _by_token(
    harvest: Harvest, latent: int, rng: np.random.Generator, n: int
) -> tuple[np.ndarray, list[float], list[int]]:
    """Token ids with the mean activation and number of firings on each, in up to 2,000 windows, highest mean first."""
    firings = harvest.activations(latent)
    fired_in = np.unique(firings.window)
    if len(fired_in) > WINDOWS:
        fired_in = np.sort(rng.choice(fired_in, WINDOWS, replace=False))
    texts = {window.id: window.tokens for window in windows_of(harvest, fired_in)}
    chosen = np.flatnonzero(np.isin(firings.window, fired_in))
    tokens = np.array([texts[int(firings.window[row])][firings.position[row]] for row in chosen], int)
    ids, where, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    means = np.bincount(where, firings.activation[chosen], minlength=len(ids)) / np.maximum(counts, 1)
    often = counts >= SEEN if (counts >= SEEN).any() else counts > 0
    order = [index for index in np.argsort(-means, kind="stable") if often[index]][:n]
    return ids[order], means[order].tolist(), counts[order].tolist()
