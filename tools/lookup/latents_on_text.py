"""Which latents a text lights up."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.reading import read_text
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    """A text, how many latents to list, and what to rank them by."""

    text: str = Field(min_length=1)
    n: int = Field(20, ge=1, le=500)
    rank: Literal["peak", "excess"] = Field("peak", description="excess needs a harvest")
    max_density: float = Field(1.0, gt=0, le=1, description="leave out latents that fire on a larger share of tokens")


class Lit(ToolOutput):
    """A latent, its highest activation on the text, where, and what is usual for it (None without a harvest)."""

    latent: str
    index: int
    peak: float
    token: str
    position: int = Field(description="of the token in the text, from 0")
    tokens: int = Field(description="tokens of the text it fires on")
    excess: float | None = Field(description="peak less the mean of its firings in the harvest")
    density: float | None


class Output(ToolOutput):
    """The latents, best first, out of `firing` that fire on the text's `tokens`."""

    tokens: tuple[str, ...]
    firing: int
    latents: tuple[Lit, ...]


@tool(version=1)
def latents_on_text(input: Input, context: Context) -> Output:
    """Lists the latents that fire on a text, by their highest activation or by its excess over what is usual for them.

    Ranking by excess, or limiting the density, brings out latents that are about this text rather than about any text.
    """
    subject = context.subject
    reading = read_text(subject, input.text)
    dense = torch.cat(list(reading.encoded())).numpy()  # [n, n_latents]
    peaks = dense.max(axis=0)
    stats = context.need_harvest().stats() if input.rank == "excess" or input.max_density < 1 else None
    if stats is None and context.harvest:
        stats = context.harvest.stats()
    listed = np.flatnonzero(peaks > 0)
    firing = len(listed)
    if stats is not None:
        listed = listed[stats.density[listed] <= input.max_density]
    usual = stats.mean[listed] if stats is not None and input.rank == "excess" else 0.0
    listed = listed[np.argsort(-(peaks[listed] - usual), kind="stable")][: input.n]
    lit = []
    for index in listed.tolist():
        position = int(dense[:, index].argmax())
        lit.append(
            Lit(
                latent=str(subject.latent(index)),
                index=index,
                peak=float(peaks[index]),
                token=reading.tokens[position],
                position=position,
                tokens=int((dense[:, index] > 0).sum()),
                excess=float(peaks[index] - stats.mean[index]) if stats is not None else None,
                density=float(stats.density[index]) if stats is not None else None,
            )
        )
    return Output(tokens=reading.tokens, firing=firing, latents=tuple(lit))
