"""One dictionary of one hook point: a SAELens SAE with a name, decoder rows of norm 1 and a fingerprint.

An SAE gives back what it reads; a transcoder reads an MLP's input and gives its output, at another hook point.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sae_lens import SAE


@dataclass
class Dictionary:
    """A sparse autoencoder and what is known of its training.

    `sae` encodes [..., d_model] to [..., n_latents] and decodes back. Decoder rows have norm 1 where the architecture
    allows folding, so an activation is the length of the latent's contribution to the residual stream.
    `stated_l0` is the mean number of active latents per token that its authors state, or None.
    """

    name: str
    sae: "SAE"
    hook: str
    stated_l0: float | None = None
    trained_on: str | None = None  # the model it was trained on, as its authors spell it
    gives: str | None = None  # a transcoder's output hook point, where its authors state one

    @property
    def d_model(self) -> int:
        return int(self.sae.cfg.d_in)

    @property
    def n_latents(self) -> int:
        return int(self.sae.cfg.d_sae)

    @property
    def is_transcoder(self) -> bool:
        """Whether it maps an MLP's input to its output, rather than a value to itself."""
        return "transcoder" in str(self.sae.cfg.architecture())

    @property
    def d_out(self) -> int:
        """The width of what it gives."""
        return int(self.sae.W_dec.shape[-1])

    @property
    def hook_out(self) -> str | None:
        """The hook point whose value a transcoder gives; None of an SAE, which gives what it reads."""
        if not self.is_transcoder:
            return None
        return self.gives or f"blocks.{self.hook.split('.')[1]}.hook_mlp_out"

    @property
    def decoder(self) -> Tensor:
        """[n_latents, d_model]: what each latent writes."""
        decoder: Tensor = self.sae.W_dec.detach()
        return decoder

    def encode(self, residual: Tensor, graph: bool = False) -> Tensor:
        """[..., d_model] -> [..., n_latents], zero where a latent does not fire. graph: gradients flow through it."""
        with torch.set_grad_enabled(graph):
            activations: Tensor = self.sae.encode(residual.to(self.sae.W_enc.dtype))
        return activations

    def before_activation(self, residual: Tensor) -> Tensor:
        """[..., d_model] -> [..., n_latents]: what the encoder's activation function is given."""
        caught: list[Tensor] = []
        handle = self.sae.hook_sae_acts_pre.register_forward_hook(lambda module, given, value: caught.append(value))
        try:
            self.encode(residual)
        finally:
            handle.remove()
        return caught[0]

    def decode(self, activations: Tensor) -> Tensor:
        """[..., n_latents] -> [..., d_model]."""
        with torch.no_grad():
            reconstruction: Tensor = self.sae.decode(activations.to(self.sae.W_dec.dtype))
        return reconstruction

    def reconstruct(self, value: Tensor) -> Tensor:
        """[..., d_model] -> [..., d_out]: what it makes of what it reads, a transcoder's skip connection included."""
        with torch.no_grad():
            made: Tensor = self.sae(value.to(self.sae.W_enc.dtype))
        return made

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every weight, so that a row of evidence names the exact dictionary."""
        digest = sha256(f"{self.hook}{self.gives or ''}".encode())
        for key, value in sorted(self.sae.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().to("cpu", torch.float32).numpy().tobytes())
        return digest.hexdigest()[:24]


def sparse(activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[n, n_latents] as (row int64[m], latent int64[m], activation [m]), where the activation is above 0."""
    row, latent = activations.nonzero(as_tuple=True)
    return row, latent, activations[row, latent]
