"""A model that TransformerBridge boots: its tokens, its sizes and the names of its hook points."""

from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from store.errors import UserError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Booted:
    """The model with its tokenizer, on a device."""

    model: "TransformerBridge"
    tokenizer: Any
    device: torch.device

    @property
    def bos(self) -> int:
        """The token every window starts with."""
        token = self.tokenizer.bos_token_id
        return int(token if token is not None else self.tokenizer.eos_token_id)

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        token = self.tokenizer.eos_token_id
        return int(token if token is not None else self.bos)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS."""
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return encoded

    def to_tokens(self, text: str) -> Tensor:
        """int64[1, s]: `text` with BOS in front. UserError when it holds no token."""
        ids = self.tokenize([text])[0]
        if not ids:
            raise UserError("The text is empty: give at least one token of text.")
        return torch.tensor([[self.bos, *ids]], device=self.device)

    def token_strings(self, tokens: Sequence[int] | np.ndarray) -> list[str]:
        """What each token reads as on its own, spaces and line breaks included."""
        if not len(tokens):
            return []  # the tokenizer would give [""]
        strings: list[str] = self.tokenizer.batch_decode([[int(t)] for t in tokens], clean_up_tokenization_spaces=False)
        return strings

    @property
    def n_layers(self) -> int:
        return int(self.model.cfg.n_layers)

    @property
    def n_heads(self) -> int:
        return int(self.model.cfg.n_heads)

    @property
    def d_head(self) -> int:
        return int(self.model.cfg.d_head)

    @property
    def d_mlp(self) -> int:
        return int(self.model.cfg.d_mlp)

    @property
    def context(self) -> int:
        """Tokens that the model can read at once."""
        return int(self.model.cfg.n_ctx)

    def keeping(self, places: Tensor | int) -> dict[str, Tensor | int]:
        """What tells a forward pass to give the logits of these positions alone, int64[k], or of so many last ones;
        nothing where the model cannot be told: it then gives all."""
        return {"logits_to_keep": places} if self._keeps else {}

    @cached_property
    def _keeps(self) -> bool:
        return "logits_to_keep" in signature(self.model.original_model.forward).parameters

    @cached_property
    def points(self) -> dict[str, Any]:
        """Every hook point by each of its names."""
        found: dict[str, Any] = self.model.hook_dict
        return found

    @staticmethod
    def layer_of(hook: str) -> int:
        """The layer of a hook point such as blocks.15.hook_resid_pre."""
        return int(hook.split(".")[1])

    @property
    def residual_points(self) -> list[str]:
        """The residual stream entering each layer."""
        return [f"blocks.{layer}.hook_resid_pre" for layer in range(self.n_layers)]

    @property
    def reading_points(self) -> list[str]:
        """Wherever a layer or the unembedding reads the residual stream."""
        middle = [f"blocks.{layer}.hook_resid_mid" for layer in range(self.n_layers)]
        points = self.model.hook_dict  # made anew each time it is asked for
        inside = [point for point in middle if point in points]  # none where a layer's parts are parallel
        return [*self.residual_points, *inside, self.end]

    @property
    def end(self) -> str:
        """The residual stream that the final norm reads."""
        return f"blocks.{self.n_layers - 1}.hook_resid_post"
