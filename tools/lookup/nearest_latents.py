"""Latents that resemble one: in what they write (decoder cosine) and in when they fire (phi coefficient)."""

import numpy as np
from pydantic import Field

from store.activations import Harvest
from tools.workbench.context import Context
from tools.workbench.examples import need_firings
from tools.workbench.negatives import decoder_cosines
from tools.workbench.registry import ToolInput, ToolOutput, tool

WINDOWS = 200  # windows that co-firing is counted in


class Input(ToolInput):
    """Which latent, and how many neighbours of each kind."""

    latent: int
    n: int = Field(10, ge=1, le=200)


class Near(ToolOutput):
    """A latent, its decoder's cosine with the asked one's, and the phi coefficient of their firing (-1 to 1)."""

    latent: str
    index: int
    cosine: float
    phi: float


class Output(ToolOutput):
    """Nearest by cosine and by phi, best first; phi is estimated on the firings in `windows` of its windows."""

    latent: str
    by_cosine: tuple[Near, ...]
    by_cofiring: tuple[Near, ...]
    windows: int


@tool(version=1)
def nearest_latents(input: Input, context: Context) -> Output:
    """Lists the latents nearest to one by decoder cosine and by co-firing: rivals for its meaning, or parts of it."""
    subject, harvest = context.subject, context.need_harvest()
    latent = subject.latent(input.latent)
    need_firings(harvest, input.latent)
    cosines = decoder_cosines(subject, input.latent)
    phi, windows = cofiring(harvest, input.latent, context.rng("nearest_latents", input.latent))

    def near(values: np.ndarray) -> tuple[Near, ...]:
        order = [index for index in np.argsort(-values, kind="stable").tolist() if index != input.latent][: input.n]
        return tuple(
            Near(latent=str(subject.latent(i)), index=i, cosine=float(cosines[i]), phi=float(phi[i])) for i in order
        )

    return Output(latent=str(latent), by_cosine=near(cosines), by_cofiring=near(phi), windows=windows)


def cofiring(harvest: Harvest, latent: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(phi float64[n_latents], windows counted): phi coefficient of each latent's firing with `latent`'s, per token.

    phi = (p_ij - p_i p_j) / sqrt(p_i (1 - p_i) p_j (1 - p_j)). p_i and p_j are shares of the harvest's tokens;
    p_ij = p_i P(j | i), with P(j | i) counted on all firings of i in up to 200 of its windows, drawn uniformly.
    """
    density = harvest.stats().density
    firings = harvest.activations(latent)
    windows = np.unique(firings.window)
    if len(windows) > WINDOWS:
        windows = np.sort(rng.choice(windows, WINDOWS, replace=False))
    mine = np.isin(firings.window, windows)
    places = _place(firings.window[mine], firings.position[mine])
    others = harvest.firing_latents(windows.tolist())
    together = others.latent[np.isin(_place(others.window, others.position), places)]
    given = np.bincount(together, minlength=harvest.n_latents) / len(places)
    own = density[latent]
    spread = np.sqrt(own * (1 - own) * density * (1 - density))
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = np.where(spread > 0, (own * given - own * density) / spread, 0.0)
    return np.clip(phi, -1, 1), len(windows)


def _place(window: np.ndarray, position: np.ndarray) -> np.ndarray:
    return (window.astype(np.int64) << 16) | position.astype(np.int64)
