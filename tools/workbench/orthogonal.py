"""A copy of the model that can no longer write along a direction, and its folder on disk."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from store.disk import full_disk_explained
from tools.workbench.registry import ToolError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def orthogonalised(model: "TransformerBridge", direction: Tensor, untie: bool = True) -> "TransformerBridge":
    """A copy whose embedding, attention outputs and MLP outputs have no part along `direction` [d_model].

    W <- W - r r' W for each matrix that writes to the residual stream (Arditi et al. 2406.11717). Where
    the unembedding is the embedding's own matrix it keeps a copy of what it was: it reads, and must stay as it is.
    untie=False leaves them tied, which is wrong and is here to be measured. ToolError where the parts are not found.
    """
    copied = deepcopy(model)
    r = (direction / direction.norm()).to(next(copied.original_model.parameters()))
    embedding = _original(copied.embed)
    with torch.no_grad():
        own = embedding.weight
        assert isinstance(own, Tensor)
        projected = own - (own @ r)[:, None] * r
        if untie:
            embedding.weight = nn.Parameter(projected, requires_grad=False)
        else:
            own.copy_(projected)
        for block in copied.blocks:
            for module in (getattr(getattr(block, "attn", None), "o", None), getattr(block.mlp, "out", None)):
                if module is None:
                    raise ToolError("This model's layers have no single output matrix: its weights stay as they are.")
                _project(_original(module), r)
    return copied


def tied(model: "TransformerBridge") -> bool:
    """Whether the unembedding is the embedding's own matrix."""
    inner = model.original_model
    own: bool = inner.get_output_embeddings().weight.data_ptr() == inner.get_input_embeddings().weight.data_ptr()
    return own


def keep(model: "TransformerBridge", folder: Path) -> None:
    """Writes weights, configuration and tokenizer to `folder`, whole or not at all; a folder that is there stays.

    UserError when the disk is full.
    """
    if folder.exists():
        return
    from transformers import AutoModelForCausalLM

    config = deepcopy(model.original_model.config)
    wrapped = model.original_model.state_dict()
    state = {key.replace("._original_component", ""): value for key, value in wrapped.items()}
    config.tie_word_embeddings = tied(model)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=model.original_model.dtype)
    plain.load_state_dict({key: state[key] for key in plain.state_dict()}, assign=True)
    part = folder.with_name(f"{folder.name}.part")
    with full_disk_explained(folder):
        shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
        part.mkdir(parents=True)
        plain.save_pretrained(part)
        model.tokenizer.save_pretrained(part)
        part.rename(folder)


def _original(module: nn.Module) -> nn.Module:
    """The module that a bridge wraps."""
    wrapped: nn.Module = getattr(module, "original_component", module)
    return wrapped


def _project(linear: nn.Module, r: Tensor) -> None:
    weight = linear.weight
    assert isinstance(weight, Tensor)
    if isinstance(linear, nn.Linear):  # [d_model, in]
        weight -= r[:, None] * (r @ weight)
    else:  # GPT-2's Conv1D is [in, d_model]
        weight -= (weight @ r)[:, None] * r
    bias = getattr(linear, "bias", None)
    if isinstance(bias, Tensor):
        bias -= (bias @ r) * r
