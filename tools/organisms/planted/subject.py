"""A subject whose dictionary holds planted latents and nothing else.

The residual stream that enters the dictionary's layer loses what it had in the span of the planted directions, which
are orthonormal, and gains each latent's activation along its own. So the dictionary is a plain SAE that reads its
latents from the residual stream like any other, an edit of a latent changes it, and what a latent writes has its effect
on all later layers.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tools.organisms.planted.directions import directions
from tools.organisms.planted.latents import planted
from tools.organisms.planted.rules import draw, firings
from tools.workbench.dictionary import Dictionary
from tools.workbench.subject import SINK_RATIO, Subject
from tools.workbench.texts import pieces

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

VERSION = 1  # of rules, directions and strengths: raise it with any change, so that old harvests do not match
LAYER = 15
HOOK = f"blocks.{LAYER}.hook_resid_pre"
STRONGEST = 0.4  # of the residual stream's typical norm: the largest activation
WEAKEST = 0.6  # of the strongest: activations vary for no reason, so that examples do
THRESHOLD = 0.3  # of the strongest: far above what rounding leaves, far below any firing


class PlantedSubject(Subject):
    """`model` with `planted()` in it, until `uproot`. Give a model in float32: activations are read to within 0.01."""

    def __init__(self, name: str, model: "TransformerBridge") -> None:
        super().__init__(name, model, HOOK, None)
        self.strongest = round(STRONGEST * self.typical_norm)
        self._dictionary = self._made(directions(self, self.strongest))
        self._rows: list[list[int]] = []
        self._hooks = {"embed.hook_in": self._see, f"blocks.{LAYER - 1}.hook_out": self._plant}
        self.root()

    def root(self) -> None:
        """Puts the latents into the model."""
        for place, hook in self._hooks.items():
            self.model.hook_dict[place].add_hook(hook, is_permanent=True)

    def uproot(self) -> None:
        """Takes the latents out of the model again."""
        for place in self._hooks:
            self.model.hook_dict[place].remove_hooks("fwd", including_permanent=True)

    def truth(self, tokens: list[int]) -> np.ndarray:
        """float32[n, n_latents]: the activation of every latent on tokens that start with BOS, by the rules alone."""
        strings = ["", *pieces(self, tokens[1:])]
        text, end = "".join(strings), 0
        ends = [end := end + len(string) for string in strings]
        activations = np.zeros((len(tokens), len(planted())), np.float32)
        for index, latent in enumerate(planted()):
            for place in np.flatnonzero(firings(latent.rule, strings)):
                share = WEAKEST + (1 - WEAKEST) * draw("strength", index, text[: ends[place]])
                activations[place, index] = share * self.strongest
        return activations

    def fires(self, index: int, text: str) -> bool:
        """Whether latent `index` fires on any token of `text`, by its rule."""
        return any(firings(planted()[index].rule, pieces(self, self.tokenize([text])[0])))

    def _see(self, tokens: Tensor, hook: Any) -> None:
        """Remembers what the model reads. One token that is not BOS goes on from the pass before: it has a cache."""
        rows = tokens.tolist()
        goes_on = len(rows) == len(self._rows) and all(len(row) == 1 and row[0] != self.bos for row in rows)
        self._rows = [[*old, *row] for old, row in zip(self._rows, rows, strict=True)] if goes_on else rows

    def _plant(self, value: Tensor, hook: Any) -> Tensor:
        """[b, s, d_model] with the activations of its tokens planted; sinks, whose norm is huge, stay as they are."""
        truth = np.stack([self.truth(row)[-value.shape[1] :] for row in self._rows])
        wanted = torch.from_numpy(truth).to(value)
        rows = self.dictionary.decoder
        changed = value + (wanted - value @ rows.T) @ rows
        sink = value.float().norm(dim=-1, keepdim=True) > SINK_RATIO * self.typical_norm
        return torch.where(sink, value, changed)

    def _made(self, rows: Tensor) -> Dictionary:
        from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
        from sae_lens.saes.sae import SAEMetadata

        n = len(rows)
        config = JumpReLUSAEConfig(
            d_in=self.d_model,
            d_sae=n,
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            apply_b_dec_to_input=False,
            normalize_activations="none",
            metadata=SAEMetadata(hook_name=self.hook),
        )
        sae = JumpReLUSAE(config)
        with torch.no_grad():
            sae.W_enc.copy_(rows.T)
            sae.W_dec.copy_(rows)
            sae.threshold.fill_(THRESHOLD * self.strongest)
        dictionary = Dictionary(f"l{LAYER}-{n}", sae.requires_grad_(False), self.hook)
        dictionary.fingerprint = (
            f"planted.v{VERSION}"  # not the weights, whose last bits differ from machine to machine
        )
        return dictionary
