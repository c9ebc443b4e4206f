"""LoRA adapters in peft's format, added to a model's weights: W + (alpha / r) B A (Hu et al. 2106.09685, eq. 3).

Merged here in a few lines, so that no more is installed than the model needs. Only plain LoRA on linear layers is read.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from store.errors import UserError

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "record.json"
PREFIX = "base_model.model."
PLAIN: dict[str, Any] = {  # what a setting of peft's must be where it is named, since anything else needs more than B A
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}
SAMPLES = 1024  # of each tensor, for the hash of a base


class Adapter:
    """An adapter's factors and, once it is merged, the weights of the base that it changed.

    name: as whoever named it spelled it, to be found again. sha256: of its weights' file. record: what `glossator
    organism train` wrote beside them; an adapter from elsewhere has none. on: False while the base is read.
    """

    on = True

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Reads `folder`. UserError when it holds no plain LoRA, or not the weights that its record names."""
        self.folder = folder
        self.name = name or str(folder)
        try:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            self.record = json.loads((folder / RECORD).read_text("utf-8")) if (folder / RECORD).exists() else {}
            self.sha256 = sha256((folder / WEIGHTS).read_bytes()).hexdigest()
            self.factors: dict[str, Tensor] = load_file(folder / WEIGHTS)
            self.base, self.scale = str(config["base_model_name_or_path"]), config["lora_alpha"] / config["r"]
        except FileNotFoundError as error:
            raise UserError(
                f"{folder} holds no adapter, there is no {Path(error.filename).name} in it: name one of glossator "
                "organism list, or a folder that peft wrote."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"Could not read the adapter in {folder} ({reason}): train or copy it again.") from None
        if self.record.get("sha256", self.sha256) != self.sha256:
            raise UserError(
                f"The weights in {folder} are not those that its {RECORD} names, their hash is another: "
                "train or copy the adapter again."
            )
        odd = [
            f"{key} = {config[key]!r}" for key, value in PLAIN.items() if config.get(key, value) not in (value, None)
        ]
        if odd:
            raise UserError(f"The adapter in {folder} is no plain LoRA ({', '.join(odd)}): merge it into its model.")
        self._others: list[tuple[nn.Parameter, Tensor]] = []  # each changed weight, and what it is with the adapter off

    def merge(self, model: nn.Module, name: str) -> None:
        """Adds the adapter to the weights of `model`, which is called `name`. UserError when its base is another."""
        pairs = self._pairs()
        modules = dict(model.named_modules())
        fits = all(
            isinstance(module := modules.get(key), nn.Linear)
            and (up.shape[0], down.shape[1]) == tuple(module.weight.shape)
            for key, (down, up) in pairs.items()
        )
        stated = self.record.get("base_sha256")
        named = self.base.rstrip("/").rpartition("/")[2].lower() == name.rstrip("/").rpartition("/")[2].lower()
        if fits and named and stated and base_hash(model) != stated:
            raise UserError(
                f"The adapter {self.name!r} was trained on other weights than {name} has here: train it again on these."
            )
        if not fits or not named:
            raise UserError(
                f"The adapter {self.name!r} belongs to {self.base} and not to {name}: name that model, or an adapter "
                f"of this one (where both are one under two names, write {name} into its {CONFIG})."
            )
        for key, (down, up) in pairs.items():
            weight: nn.Parameter = modules[key].weight
            change = self.scale * (up.to(weight.device).float() @ down.to(weight.device).float())
            self._others.append((weight, weight.data))
            weight.data = (weight.data.float() + change).to(weight.dtype)

    def adapted(self, model: str) -> str:
        """What the model called `model` is called with this adapter: by its hash, since its name may tell a secret."""
        return f"{model}--lora-{self.sha256[:6]}"

    @contextmanager
    def off(self) -> Iterator[None]:
        """The base itself for a while, to the last bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def scrambled(self, rng: np.random.Generator) -> list[Tensor]:
        """The changed weights as they would be had the same change hit other places: its rows and columns permuted,
        so that its size and rank are the same and what it means is gone."""
        found = []
        for weight, other in self._others:
            change = weight.data.float() - other.float()
            rows, columns = (torch.from_numpy(rng.permutation(size)).to(change.device) for size in change.shape)
            found.append((other.float() + change[rows][:, columns]).to(other.dtype))
        return found

    @contextmanager
    def wearing(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Other weights for a while in the places that the adapter changed."""
        own = [weight.data for weight, _ in self._others]
        for (weight, _), worn in zip(self._others, weights, strict=True):
            weight.data = worn
        try:
            yield
        finally:
            for (weight, _), kept in zip(self._others, own, strict=True):
                weight.data = kept

    def _swap(self) -> None:
        for place, (weight, other) in enumerate(self._others):
            self._others[place], weight.data = (weight, weight.data), other
        self.on = not self.on

    def _pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """For each changed layer A [r, in] and B [out, r]."""
        sides = {
            side: {
                key.removeprefix(PREFIX).removesuffix(f".lora_{side}.weight"): value
                for key, value in self.factors.items()
                if key.endswith(f".lora_{side}.weight")
            }
            for side in "AB"
        }
        downs, ups = sides["A"], sides["B"]
        if not downs or downs.keys() != ups.keys() or len(downs) + len(ups) != len(self.factors):
            raise UserError(f"The adapter in {self.folder} is no plain LoRA: merge it into its model.")
        if not all(bool(torch.isfinite(factor).all()) for factor in self.factors.values()):
            raise UserError(f"The adapter in {self.folder} has weights that are not finite: train or copy it again.")
        return {key: (down, ups[key]) for key, down in downs.items()}


def base_hash(model: nn.Module) -> str:
    """Hash of a model's weights, of a strided sample of each tensor in bfloat16: the same in either precision."""
    digest = sha256()
    for key, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        sample = flat[:: max(1, flat.numel() // SAMPLES)].to("cpu", torch.bfloat16).float().numpy()
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()
