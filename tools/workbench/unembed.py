"""What a direction written to the residual stream does to the logits when nothing between reads it."""

import torch
from torch import Tensor

from tools.workbench.subject import Subject


def norm_gain(subject: Subject) -> Tensor:
    """[d_model]: the final norm's gain, asked of the module itself, so that any spelling (weight, 1 + weight) fits.

    On a vector of alternating signs, of mean 0 and mean square 1, every norm is its gain (and its bias, which cancels).
    """
    signs = torch.ones(1, 1, subject.d_model, device=subject.device, dtype=subject.dtype)
    signs[..., 1::2] = -1
    with torch.no_grad():
        gain: Tensor = (subject.model.ln_final(signs) - subject.model.ln_final(-signs)) / 2 * signs
    return gain[0, 0].float()


def direct_effect(subject: Subject, direction: Tensor) -> Tensor:
    """[vocabulary]: change of each logit per unit of `direction` [d_model], relative to the mean over the vocabulary.

    The final norm's gain is folded in; its scale, which depends on the token, is left out, so values compare within a
    direction and in sign, not across tokens. Source: logit attribution, Elhage et al. 2021, "A Mathematical Framework".
    """
    direction = direction.float().to(subject.device)
    if subject.model.cfg.normalization_type in ("LN", "LNPre"):
        direction = direction - direction.mean()
    effect: Tensor = (direction * norm_gain(subject)) @ subject.model.unembed.W_U.float()
    return effect - effect.mean()


def random_direction(subject: Subject, seed: int) -> Tensor:
    """[d_model]: a direction of norm 1, uniform over the sphere, the same for the same seed on every device."""
    direction = torch.randn(subject.d_model, generator=torch.Generator().manual_seed(seed))
    unit: Tensor = direction / direction.norm()
    return unit.to(subject.device)
