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

import numpy as np
import torch
from torch import Tensor

from store.errors import UserError
from store.ids import content_hash
from store.types import LatentId, slug
from tools.workbench.adapters import Adapter
from tools.workbench.dictionary import Dictionary
from tools.workbench.editing import Change, Moves, hooks, sparing, watching
from tools.workbench.registry import ToolError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SINK_RATIO = 50.0
CALIBRATION_TOKENS = 2048
CALIBRATION_CONTEXT = 256

Splice = tuple[str, Callable[[Tensor], Tensor | None]]  # a hook point, and its value's successor (None: itself)


class Subject:
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

    @property
    def bos(self) -> int:
        """The token every window starts with."""
        token = self.tokenizer.bos_token_id
        return int(token if token is not None else self.tokenizer.eos_token_id)

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
    ) -> Tensor:
        """[b, s, vocabulary] next-token logits with the changes made and then, at their hook points, `also`.

        prompt: how many of the s tokens are the prompt (None: all), which positions are counted in. moves: told
        what the changes did. ToolError for numbers that are not finite.
        """
        tokens = tokens.to(self.device)
        made = hooks(self, changes, prompt or tokens.shape[1], moves=moves, sinks=self._spared(tokens, changes))
        made += _spliced(also)
        with torch.no_grad():
            logits: Tensor = self.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=made)
        return _finite(logits, bool(changes))

    def generate(
        self,
        tokens: Tensor,
        n: int,
        changes: Sequence[Change] = (),
        temperature: float = 0.0,
        seed: int = 0,
        lengths: Sequence[int] | None = None,
        also: Sequence[Splice] = (),
    ) -> Tensor:
        """int64[b, s + up to n]: the prompts [b, s] and what follows them, the changes and `also` made in every token.

        lengths: of each prompt, which is padded on the right with anything (None: s); what follows begins at s all the
        same. No token sees the padding, and positions count on from a prompt's own length.

        Temperature 0 takes the likeliest token, ties aside the same on every device; otherwise `seed` decides, alike
        in each block of rows that the changes write along another direction in. A row that ended is filled with the end
        token. Keys and values are cached: each token is computed once.
        """
        text = tokens.to(self.device)
        prompt = text.shape[1]
        blocks = max((change.rows for change in changes), default=1)
        generators = [torch.Generator().manual_seed(seed) for _ in range(blocks)]
        own = torch.tensor([prompt] * len(text) if lengths is None else list(lengths), device=self.device)
        visible = torch.arange(prompt, device=self.device) < own[:, None]  # bool[b, s and what was written]
        rows = torch.arange(len(text), device=self.device)
        ended = torch.zeros(len(text), dtype=torch.bool, device=self.device)
        cache: Any = None
        plain: Any = None  # the cache of the same text, unedited
        layers = sparing(changes)
        for _ in range(n):
            start = 0 if cache is None else text.shape[1] - 1
            seen: dict[str, Any] = {}
            last_at = own - 1  # no token of a prompt sees the padding after it: attention is causal
            if cache is not None:
                last_at = torch.zeros_like(own)
                seen = {"attention_mask": visible.long(), "position_ids": (own + start - prompt)[:, None]}
            sinks: dict[int, Tensor] | None = None
            if layers:
                sinks = {}
                with torch.no_grad():
                    _, plain = self.model.run_with_hooks(
                        text[:, start:],
                        return_type="logits_and_cache",
                        fwd_hooks=watching(self, layers, sinks, start),
                        use_cache=True,
                        **seen,
                        **({"past_key_values": plain} if plain is not None else {}),
                    )
            with torch.no_grad():
                logits, cache = self.model.run_with_hooks(
                    text[:, start:],
                    return_type="logits_and_cache",
                    fwd_hooks=[*hooks(self, changes, prompt, start, sinks=sinks), *_spliced(also)],
                    use_cache=True,
                    **seen,
                    **({"past_key_values": cache} if cache is not None else {}),
                )
            last = _finite(logits[rows, last_at].float(), bool(changes)).cpu()
            if temperature > 0:
                chances = (last / temperature).softmax(-1).chunk(blocks)
                drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(chances, generators, strict=True)]
                chosen = torch.cat(drawn)[:, 0]
            else:
                chosen = last.argmax(-1)
            chosen = torch.where(ended, self.eos, chosen.to(self.device))
            text = torch.cat([text, chosen[:, None]], dim=1)
            visible = torch.cat([visible, torch.ones_like(visible[:, :1])], dim=1)
            ended |= chosen == self.eos
            if bool(ended.all()):
                break
        return text

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

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        token = self.tokenizer.eos_token_id
        return int(token if token is not None else self.bos)

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


def _spliced(also: Sequence[Splice]) -> list[tuple[str, Callable[..., Any]]]:
    return [(point, lambda value, hook, f=function: f(value)) for point, function in also]


def _finite(logits: Tensor, edited: bool) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise ToolError(
            "The model breaks under this edit and gives numbers that are not finite: use less strength."
            if edited
            else "The model gives numbers that are not finite: open it in float32, or add less to it."
        )
    return logits
