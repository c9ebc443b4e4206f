"""The subject: a model that TransformerBridge boots, with one dictionary on one of its hook points.

Sink tokens (Xiao et al. 2309.17453; here: residual norm above 50 times the typical norm, and position 0) carry a
norm some 130 times that of other tokens, which no dictionary explains, so every reader of activations masks them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from store.errors import UserError
from store.ids import content_hash
from store.types import LatentId, slug
from tools.workbench.adapters import Adapter
from tools.workbench.booted import Booted
from tools.workbench.dictionary import Dictionary
from tools.workbench.editing import Change, Moves, hooks, sparing, watching
from tools.workbench.registry import ToolError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SINK_RATIO = 50.0
CALIBRATION_TOKENS = 2048
CALIBRATION_CONTEXT = 256

Splice = tuple[str, Callable[[Tensor], Tensor | None]]  # a hook point, and its value's successor (None: itself)


class Subject(Booted):
    """A model, one of its hook points and, except while one is being trained, a dictionary of it.

    adapter: one that is merged into the model's weights.
    """

    adapter: Adapter | None = None

    def __init__(
        self,
        name: str,
        model: "TransformerBridge",
        hook: str,
        dictionary: Dictionary | None,
        adapter: Adapter | None = None,
    ) -> None:
        self.bare = name  # the model without its adapter
        self.name = slug(adapter.adapted(name) if adapter else name)
        self.adapter = adapter
        self.model = model
        self.tokenizer = model.tokenizer
        self.hook = hook
        self.d_model = int(model.cfg.d_model)
        self.device: torch.device = next(model.original_model.parameters()).device
        self.dtype: torch.dtype = next(model.original_model.parameters()).dtype
        self._dictionary = dictionary

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary; UserError when the subject was loaded without one."""
        if self._dictionary is None:
            raise UserError("This needs a dictionary: name one with --dictionary, or train one with glossator train.")
        return self._dictionary

    @property
    def has_dictionary(self) -> bool:
        return self._dictionary is not None

    @property
    def hook_out(self) -> str:
        """The hook point whose value the dictionary gives: what it reads or, of a transcoder, the MLP's output."""
        return self.dictionary.hook_out or self.hook

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's weights (a strided sample of each tensor), dtype, hook point, dictionary and adapter."""
        digest = sha256(str(self.dtype).encode())
        for key, value in sorted(self.model.original_model.state_dict().items()):
            flat = value.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 1024)].to("cpu", torch.float32).numpy()
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(sample.tobytes())
        adapter = [self.adapter.sha256] if self.adapter else []
        return content_hash([digest.hexdigest(), self.hook, self.dictionary.fingerprint, *adapter])

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The base model for a while; ToolError when the subject has no adapter, and so no base to compare with.

        What the subject remembers (norms, calibration, fingerprint) stays that of the adapted model.
        """
        if self.adapter is None:
            raise ToolError(f"{self.name} has no adapter, so there is no base model beneath it to compare it with.")
        with self.adapter.off():
            yield

    def latent(self, index: int) -> LatentId:
        """The full name of latent `index`; UserError when the dictionary has no such latent."""
        self.check_latent(index)
        return LatentId(model=self.name, dictionary=self.dictionary.name, index=index)

    def check_latent(self, index: int) -> None:
        """Raises UserError unless `index` is one of this dictionary's latents."""
        if not 0 <= index < self.dictionary.n_latents:
            raise UserError(
                f"Latent {index} is not in the dictionary {self.dictionary.name!r}: "
                f"name one from 0 to {self.dictionary.n_latents - 1}."
            )

    def check_written(self) -> None:
        """Raises ToolError unless latents are written where the dictionary reads: not those of heads' outputs side by
        side, nor a transcoder's."""
        if self.hook.endswith("attn.hook_z") or self.dictionary.is_transcoder:
            raise ToolError(
                f"The latents of {self.dictionary.name!r} can be read and attributed, but not edited or patched: they "
                "are not of the residual stream. Edit a head, a neuron or a direction."
            )

    def residual(self, tokens: Tensor) -> Tensor:
        """[b, s, d_model] at the dictionary's hook point; the model runs no further than it must. Heads' outputs are
        laid side by side: [b, s, heads * d_head].

        tokens: int64[b, s], padded on the right with anything (attention is causal).
        """
        return self.value_at(self.hook, tokens).flatten(2)

    def value_at(self, hook: str, tokens: Tensor, changes: Sequence[Change] = ()) -> Tensor:
        """[b, s, ...] at any hook point, with the changes made up to it; the model runs no further than it must."""
        tokens = tokens.to(self.device)
        layer = self.layer_of(hook)
        with torch.no_grad():
            if hook.endswith("hook_resid_pre") and not changes:
                residual: Tensor = self.model(tokens, return_type=None, stop_at_layer=layer)
                return residual
            caught: list[Tensor] = []
            edits = hooks(self, changes, tokens.shape[1], sinks=self._spared(tokens, changes))
            self.model.run_with_hooks(
                tokens,
                return_type=None,
                stop_at_layer=layer + 1,
                fwd_hooks=[*edits, (hook, lambda value, hook: caught.append(value))],
            )
            return caught[0]

    def logits(
        self,
        tokens: Tensor,
        changes: Sequence[Change] = (),
        prompt: int | None = None,
        also: Sequence[Splice] = (),
        moves: Moves | None = None,
        last: bool = False,
    ) -> Tensor:
        """[b, s, vocabulary] next-token logits with the changes made and then, at their hook points, `also`.

        prompt: how many of the s tokens are the prompt (None: all), which positions are counted in. moves: told
        what the changes did. last: [b, 1, vocabulary], of the last token alone, which takes less. ToolError for
        numbers that are not finite.
        """
        tokens = tokens.to(self.device)
        made = hooks(self, changes, prompt or tokens.shape[1], moves=moves, sinks=self._spared(tokens, changes))
        made += spliced(also)
        with torch.no_grad():
            less = self.keeping(1) if last else {}
            logits: Tensor = self.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=made, **less)
        logits = logits[:, -1:] if last else logits
        return finite(logits, bool(changes))

    def _spared(self, tokens: Tensor, changes: Sequence[Change]) -> dict[int, Tensor] | None:
        """The sinks of the unedited text at each layer where they are spared; None where the edited pass shows them."""
        layers = sparing(changes)
        if not layers:
            return None
        sinks: dict[int, Tensor] = {}
        looking = watching(self, layers, sinks)
        with torch.no_grad():
            self.model.run_with_hooks(tokens, return_type=None, stop_at_layer=layers[-1] + 1, fwd_hooks=looking)
        return sinks

    @cached_property
    def layer_norms(self) -> list[float]:
        """Median norm of the residual stream entering each layer, over a quarter of the calibration text."""
        norms = self.residuals(self.calibration_tokens[:2]).norm(dim=-1)
        found: list[float] = norms.flatten(1).median(1).values.tolist()
        return found

    def residuals(self, tokens: Tensor) -> Tensor:
        """float32[n_layers, b, s, d_model]: the residual stream entering each layer."""
        caught: list[Tensor] = []
        with torch.no_grad():
            self.model.run_with_hooks(
                tokens.to(self.device),
                return_type=None,
                fwd_hooks=[(point, lambda value, hook: caught.append(value.float())) for point in self.residual_points],
            )
        return torch.stack(caught)

    @cached_property
    def typical_norm(self) -> float:
        """Median residual norm over the calibration text: what sinks are measured against."""
        return float(self.calibration.float().norm(dim=-1).median())

    @cached_property
    def calibration(self) -> Tensor:
        """[8, 256, d_model]: the residual stream on the calibration text, read once."""
        return self.residual(self.calibration_tokens)

    @cached_property
    def calibration_tokens(self) -> Tensor:
        """int64[8, 256]: English documentation that every Python carries, each row starting with BOS."""
        ids = self.tokenize(["\n\n".join(topics[key] for key in sorted(topics))[:40_000]])[0]
        body = CALIBRATION_CONTEXT - 1
        rows = [
            [self.bos, *ids[i : i + body]] for i in range(0, CALIBRATION_TOKENS // CALIBRATION_CONTEXT * body, body)
        ]
        return torch.tensor(rows, device=self.device)

    def sinks(self, residual: Tensor, typical: float | None = None, start: int = 0) -> Tensor:
        """bool[b, s]: True where a token must not be read. Position 0 (BOS) always is one.

        residual: [b, s, d_model] of tokens [start, start + s). typical: the norm of other tokens there; None: at the
        dictionary's hook point.
        """
        mask: Tensor = residual.float().norm(dim=-1) > SINK_RATIO * (typical or self.typical_norm)
        if start == 0:
            mask[:, 0] = True
        return mask

    def activations(self, tokens: Tensor) -> Tensor:
        """[b, s, n_latents] for a few short texts, zero on sinks. The harvest has its own sparse path."""
        residual = self.residual(tokens)
        encoded = self.dictionary.encode(residual)
        encoded[self.sinks(residual)] = 0
        return encoded


def spliced(also: Sequence[Splice]) -> list[tuple[str, Callable[..., Any]]]:
    """Splices as the hooks that TransformerLens takes."""
    return [(point, lambda value, hook, f=function: f(value)) for point, function in also]


def finite(logits: Tensor, edited: bool) -> Tensor:
    """The logits; ToolError when they are no numbers, by an edit or without one."""
    if not bool(torch.isfinite(logits).all()):
        raise ToolError(
            "The model breaks under this edit and gives numbers that are not finite: use less strength."
            if edited
            else "The model gives numbers that are not finite: open it in float32, or add less to it."
        )
    return logits
