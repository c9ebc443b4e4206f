"""A model from a folder or the hub, with an adapter merged into it, as a TransformerBridge."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from store.errors import UserError
from tools.workbench.adapters import Adapter
from tools.workbench.compute import go_on

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HUB_SECONDS = 10.0  # that the hub has to answer


def boot(
    name: str, folder: str | Path, device: torch.device, dtype: torch.dtype, adapter: Adapter | None = None
) -> "TransformerBridge":
    """The model in `folder` (or called `folder` on the hub) as a TransformerBridge, the adapter merged into it.

    UserError when there is no such model, or the adapter is another's.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        local = _is_here(str(folder))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=local).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=local)
        model.requires_grad_(False)
        if adapter:
            adapter.merge(model, name)
        model.get_input_embeddings().register_forward_pre_hook(lambda *_: go_on())
        return TransformerBridge.boot_transformers(
            str(folder), hf_model=model, tokenizer=tokenizer, dtype=dtype, device=device
        )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"Could not load the model {name!r} ({reason}): name 'smollm2-135m-instruct', a hub model that "
            "TransformerBridge supports, or a folder with config.json, weights and tokenizer."
        ) from None


def _is_here(model: str) -> bool:
    """Whether to load what is on this machine alone: a folder, or what was fetched before where the hub cannot be
    reached, which is asked once. OSError when there is neither; a load would go on trying for most of a minute."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if Path(model).exists():
        return True
    try:
        HfApi().model_info(model, timeout=HUB_SECONDS)
    except Exception as error:  # the client's own are of several families
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return True
        raise OSError(f"it is no folder here, and the hub does not give it: {error}") from None
    return False
