"""A model that refuses harmful requests and answers harmless ones, which the embedded model does not do by itself.

The adapter is a LoRA (Hu et al. 2106.09685) that `train.py` makes from the requests of `texts.py`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from store.errors import UserError
from tools.workbench.embedded import NAME, model_folder
from tools.workbench.subject import boot

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FOLDER = Path(__file__).parent / "adapter"


def refusing_model(device: str = "cpu") -> "TransformerBridge":
    """The embedded model with the adapter merged into its weights, float32. UserError without the package peft."""
    try:
        from peft import PeftModel
    except ModuleNotFoundError:
        raise UserError("The organism's adapter needs peft: run pip install 'glossator[organisms]'.") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, FOLDER).merge_and_unload()
    with TemporaryDirectory() as folder:
        merged.save_pretrained(folder)
        AutoTokenizer.from_pretrained(model_folder()).save_pretrained(folder)
        return boot(f"{NAME}-refusing", folder, torch.device(device), torch.float32)
