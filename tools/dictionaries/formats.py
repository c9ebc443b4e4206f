"""Dictionary files that SAELens does not read from disk by itself, as SAELens disk loaders.

A loader takes (path, device, cfg_overrides) and returns (cfg_dict, state_dict) for `SAE.load_from_disk`. The version
in the metadata says that the configuration is of SAELens' present form; without it SAELens rewrites it as an old one.
"""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from store.errors import UserError

Loaded = tuple[dict[str, Any], dict[str, Tensor]]

GEMMA_SCOPE = "params.npz"
SPARSIFY = "sae.safetensors"
SAELENS = "sae_weights.safetensors"
GEMMA_SCOPE_KEYS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")


def gemma_scope(path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None) -> Loaded:
    """Gemma Scope (Lieberum et al. 2408.05147): JumpReLU, no input normalisation, b_dec not subtracted from the input.

    `path` is the folder of params.npz. The layer is read from a folder called layer_<n> above it and the site from a
    parent's name that holds "mlp" or "att" (else the residual stream after the block); average_l0_<n> states L0.
    """
    path = Path(path)
    with np.load(path / GEMMA_SCOPE) as data:
        missing = [key for key in GEMMA_SCOPE_KEYS if key not in data]
        if missing:
            raise UserError(
                f"{path / GEMMA_SCOPE} lacks {', '.join(missing)}: "
                f"a Gemma Scope file holds {', '.join(GEMMA_SCOPE_KEYS)}."
            )
        state = {key: torch.from_numpy(np.asarray(data[key], np.float32)).to(device) for key in GEMMA_SCOPE_KEYS}
    layer, l0 = re.search(r"layer_(\d+)", str(path)), re.search(r"average_l0_(\d+)", path.name)
    site = "hook_mlp_out" if "-mlp" in str(path) else "attn.hook_z" if "-att" in str(path) else "hook_resid_post"
    cfg: dict[str, Any] = {
        "architecture": "jumprelu",
        "d_in": state["W_enc"].shape[0],
        "d_sae": state["W_enc"].shape[1],
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "device": device,
        "dtype": "float32",
        "metadata": {
            "sae_lens_version": version("sae-lens"),
            "hook_name": f"blocks.{layer.group(1)}.{site}" if layer else None,
            "l0": float(l0.group(1)) if l0 else None,
        },
    }
    return cfg | (cfg_overrides or {}), state


def sparsify(path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None) -> Loaded:
    """EleutherAI sparsify: top-k of ReLU(W_enc (x - b_dec) + b_enc), on the output of the block its folder names.

    SAELens's own loader transposes W_dec once too often and leaves b_dec in the input when the decoder is normalised,
    so this one follows sparsify's `SparseCoder.encode`. Transcoders are refused.
    """
    path = Path(path)
    config = json.loads((path / "cfg.json").read_text())
    if config.get("transcode") or config.get("skip_connection"):
        raise UserError(f"{path} holds a transcoder: give a sparsify autoencoder, whose cfg.json has transcode false.")
    weights = load_file(path / SPARSIFY, device=device)
    layer = re.search(r"layers[._](\d+)(\.mlp)?$", path.name)
    state = {
        "W_enc": weights["encoder.weight"].T.contiguous().float(),
        "b_enc": weights["encoder.bias"].float(),
        "W_dec": weights["W_dec"].float(),
        "b_dec": weights["b_dec"].float(),
    }
    hook = f"blocks.{layer.group(1)}.{'hook_mlp_out' if layer.group(2) else 'hook_resid_post'}" if layer else None
    cfg: dict[str, Any] = {
        "architecture": "topk",
        "k": config["k"],
        "d_in": state["W_enc"].shape[0],
        "d_sae": state["W_enc"].shape[1],
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "device": device,
        "dtype": "float32",
        "metadata": {"sae_lens_version": version("sae-lens"), "hook_name": hook},
    }
    return cfg | (cfg_overrides or {}), state
