"""The tokens that a latent makes more and less likely when its direction goes straight to the output."""

from statistics import median

import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.unembed import direct_effect, random_direction

CONTROLS = 10  # random directions


class Input(ToolInput):
    """Which latent, and how many tokens of each sign."""

    latent: int
    n: int = Field(20, ge=1, le=200)


class TokenEffect(ToolOutput):
    """A token and the change of its logit per unit of activation, relative to the mean over the vocabulary."""

    token: str
    id: int
    effect: float


class Controls(ToolOutput):
    """The same numbers for a random direction of equal norm, each the median over ten."""

    random_highest: float
    random_lowest: float
    random_kurtosis: float


class Output(ToolOutput):
    """Promoted tokens, strongest first, and suppressed ones; the final norm's gain is folded in, its scale left out."""

    latent: str
    promoted: tuple[TokenEffect, ...]
    suppressed: tuple[TokenEffect, ...]
    kurtosis: float = Field(description="of the effects over the vocabulary: high when a few tokens stand out")
    norm_scale: str = "left out: it depends on the token, so effects compare within a latent and not across tokens"
    controls: Controls


@tool(version=1)
def direct_logit_effect(input: Input, context: Context) -> Output:
    """Lists the tokens that a latent's direction promotes and suppresses through the unembedding, no layer between.

    This is what it would write if nothing later read it; effects no stronger than the random controls' mean nothing.
    """
    subject = context.subject
    latent = subject.latent(input.latent)
    direction = subject.dictionary.decoder[input.latent].float()
    effect = direct_effect(subject, direction)
    randoms = [direct_effect(subject, random_direction(subject, seed) * direction.norm()) for seed in range(CONTROLS)]
    order = effect.argsort(descending=True).tolist()

    def listed(ids: list[int]) -> tuple[TokenEffect, ...]:
        strings = subject.token_strings(ids)
        return tuple(
            TokenEffect(token=string, id=id, effect=float(effect[id])) for id, string in zip(ids, strings, strict=True)
        )

    return Output(
        latent=str(latent),
        promoted=listed(order[: input.n]),
        suppressed=listed(order[: -input.n - 1 : -1]),
        kurtosis=_kurtosis(effect),
        controls=Controls(
            random_highest=float(torch.stack([r.max() for r in randoms]).median()),
            random_lowest=float(torch.stack([r.min() for r in randoms]).median()),
            random_kurtosis=median(map(_kurtosis, randoms)),
        ),
    )


def _kurtosis(effect: Tensor) -> float:
    """Fourth moment over squared second, of [vocabulary] with mean 0."""
    return float(effect.pow(4).mean() / effect.pow(2).mean().square())
