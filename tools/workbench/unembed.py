"""What a direction written to the residual stream does to the logits when nothing between reads it."""

from typing import Any

import torch
from torch import Tensor

from tools.workbench.subject import Subject


def norm_gain(subject: Subject, norm: Any = None) -> Tensor:
    """[d_model]: a norm's gain (None: the final one's), asked of the module itself, so that any spelling (weight,
    1 + weight) fits.

    On a vector of alternating signs, of mean 0 and mean square 1, every norm is its gain (and its bias, which cancels).
    """
    norm = subject.model.ln_final if norm is None else norm
    signs = torch.ones(1, 1, subject.d_model, device=subject.device, dtype=subject.dtype)
    signs[..., 1::2] = -1
    with torch.no_grad():
        gain: Tensor = (norm(signs) - norm(-signs)) / 2 * signs
    return gain[0, 0].float()


def through_norm(subject: Subject, vector: Tensor, norm: Any = None) -> Tensor:
    """float64[..., d_model]: the direction of the norm's input along which its output grows along `vector`: the gain
    folded in, the mean taken off where the norm does; the scale is left out."""
    folded = vector.double() * norm_gain(subject, norm).double()
    return folded - folded.mean(-1, keepdim=True) if _centres(subject) else folded


def norm_scale(subject: Subject, residual: Tensor, norm: Any = None) -> Tensor:
    """float64[...]: what the norm divides each residual [..., d_model] by."""
    norm = subject.model.ln_final if norm is None else norm
    with torch.no_grad():
        normed = (norm(residual) - norm(torch.zeros_like(residual))).double()
    centred = residual.double()
    if _centres(subject):
        centred = centred - centred.mean(-1, keepdim=True)
    weighted = centred * norm_gain(subject, norm).double()
    scale: Tensor = weighted.square().sum(-1) / (normed * weighted).sum(-1)
    return scale


def readout(subject: Subject, up: Tensor, down: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """float64[n, d_model]: the direction of the residual stream along which logit `up` minus logit `down` (int64[n];
    None: minus the mean over the vocabulary) grows, divided by nothing yet; and float64[n], what the biases of final
    norm and unembedding add."""
    columns = subject.model.unembed.W_U.detach()
    with torch.no_grad():
        zeros = torch.zeros(1, 1, subject.d_model, device=subject.device, dtype=subject.dtype)
        constant = subject.model.unembed(subject.model.ln_final(zeros))[0, 0].double()

    def of(tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        if tokens is None:
            return columns.mean(1, dtype=torch.float64), constant.mean()
        tokens = tokens.to(columns.device)
        return columns[:, tokens].T.double(), constant[tokens]

    (more, above), (less, below) = of(up), of(down)
    return through_norm(subject, more - less), above - below


def _centres(subject: Subject) -> bool:
    return str(subject.model.cfg.normalization_type) in ("LN", "LNPre")


def direct_effect(subject: Subject, direction: Tensor) -> Tensor:
    """[vocabulary]: change of each logit per unit of `direction` [d_model], relative to the mean over the vocabulary.

    The final norm's gain is folded in; its scale, which depends on the token, is left out, so values compare within a
    direction and in sign, not across tokens. Source: logit attribution, Elhage et al. 2021, "A Mathematical Framework".
    """
    direction = direction.float().to(subject.device)
    if _centres(subject):
        direction = direction - direction.mean()
    effect: Tensor = (direction * norm_gain(subject)) @ subject.model.unembed.W_U.float()
    return effect - effect.mean()


def random_direction(subject: Subject, seed: int) -> Tensor:
    """[d_model]: a direction of norm 1, uniform over the sphere, the same for the same seed on every device."""
    direction = torch.randn(subject.d_model, generator=torch.Generator().manual_seed(seed))
    unit: Tensor = direction / direction.norm()
    return unit.to(subject.device)
