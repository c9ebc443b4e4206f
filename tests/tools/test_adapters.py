"""An adapter is merged as peft would merge it, taken off to the last bit, and refused where it does not belong."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from store.errors import UserError
from tools.workbench.adapters import CONFIG, RECORD, WEIGHTS, Adapter, base_hash

NAME = "owner/small-base"
TARGETS = ["q_proj", "down_proj"]


def small(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA on two of three layers with random factors, written by peft."""
    settings = peft.LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS, layers_to_transform=[1, 2])
    tuned = peft.get_peft_model(small(), settings)
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora" in name:
            weight.data.normal_()
    tuned.save_pretrained(tmp_path / "lora")
    change(tmp_path / "lora" / CONFIG, base_model_name_or_path=NAME)
    return tmp_path / "lora"


def change(path: Path, **values: object) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | values))


def test_merged_as_by_peft(folder: Path) -> None:
    merged, independent = small(), peft.PeftModel.from_pretrained(small(), folder).merge_and_unload()
    Adapter(folder).merge(merged, NAME)
    ours, theirs, before = merged.state_dict(), independent.state_dict(), small().state_dict()
    changed = {key for key in before if not torch.equal(ours[key], before[key])}
    assert changed == {f"model.layers.{n}.{m}.weight" for n in (1, 2) for m in ("self_attn.q_proj", "mlp.down_proj")}
    for key in before:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-6, rtol=1e-6)


def test_off_is_the_base_to_the_last_bit(folder: Path) -> None:
    model, tokens = small(), torch.arange(10)[None]
    before = model(tokens).logits
    adapter = Adapter(folder)
    adapter.merge(model, NAME)
    after = model(tokens).logits
    with adapter.off():
        assert torch.equal(model(tokens).logits, before)
    assert torch.equal(model(tokens).logits, after)
    assert not torch.allclose(after, before)


def test_the_hash_of_a_base_is_that_of_its_weights_in_either_precision() -> None:
    assert base_hash(small()) == base_hash(small().to(torch.bfloat16))
    assert base_hash(small()) != base_hash(small(seed=1))


def scratched(folder: Path) -> None:
    change(folder / RECORD, sha256="0" * 64)


def of_another(folder: Path) -> None:
    change(folder / RECORD, base_sha256=base_hash(small(seed=1)))


def renamed(folder: Path) -> None:
    change(folder / CONFIG, base_model_name_or_path="owner/other-base")


def wider(folder: Path) -> None:
    save_file({key: value.repeat(2, 2) for key, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def not_finite(folder: Path) -> None:
    save_file({key: value * float("nan") for key, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def of_another_kind(folder: Path) -> None:
    change(folder / CONFIG, use_dora=True)


def no_json(folder: Path) -> None:
    (folder / CONFIG).write_text("{")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (scratched, "their hash is another"),
        (of_another, "trained on other weights"),
        (renamed, "belongs to owner/other-base and not to owner/small-base"),
        (wider, "belongs to owner/small-base and not to"),
        (without_weights, f"no {WEIGHTS} in it"),
        (cut, "Could not read the adapter"),
        (not_finite, "not finite"),
        (of_another_kind, "use_dora = True"),
        (no_json, "Could not read the adapter"),
    ],
)
def test_refused(folder: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(folder)
    model = small()
    with pytest.raises(UserError, match=said):
        Adapter(folder).merge(model, NAME)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), small().parameters(), strict=True))
