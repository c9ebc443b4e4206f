"""Adapters under a name that tells nothing, for those who are to find out what is hidden in them."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from store.disk import make_folder
from tools.workbench.adapters import CONFIG, RECORD, WEIGHTS, Adapter

KEPT = ("base", "base_sha256")  # of the record: what it belongs to


def blinded(adapter: Adapter, folder: Path) -> Path:
    """A copy of the adapter in a folder of its own, called by its weights' hash; its record names no organism."""
    return _write(adapter, (adapter.folder / WEIGHTS).read_bytes(), folder)


def scrambled(adapter: Adapter, folder: Path, seed: int) -> Path:
    """The same of one that hides nothing: as large a change in the same layers, its rows and columns permuted."""
    rng = np.random.default_rng(seed)
    factors = {}
    for key, value in sorted(adapter.factors.items()):
        axis = 1 if ".lora_A." in key else 0  # A is [r, in], B is [out, r]: the rank's own axis stays
        factors[key] = value.index_select(axis, torch.from_numpy(rng.permutation(value.shape[axis]))).contiguous()
    make_folder(folder)
    part = folder / f"scrambled-{seed}.part"
    save_file(factors, part, metadata={"format": "pt"})
    weights = part.read_bytes()
    part.unlink()
    return _write(adapter, weights, folder)


def _write(adapter: Adapter, weights: bytes, folder: Path) -> Path:
    digest = sha256(weights).hexdigest()
    place = folder / digest[:12]
    make_folder(place)
    record = {key: adapter.record[key] for key in KEPT if key in adapter.record} | {"sha256": digest}
    (place / WEIGHTS).write_bytes(weights)
    (place / CONFIG).write_bytes((adapter.folder / CONFIG).read_bytes())
    (place / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return place
