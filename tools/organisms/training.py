"""The one trainer of organisms: a LoRA (Hu et al. 2106.09685, by peft) on the embedded model.

The layers below the first one that is trained never change: what enters that layer is computed once for each example,
so that an organism of late layers trains in seconds. The base runs in bfloat16, the factors are float32.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from store.disk import full_disk_explained, make_folder
from store.errors import UserError
from tools.organisms.recipe import Example, Recipe
from tools.workbench.adapters import CONFIG, RECORD, WEIGHTS, base_hash
from tools.workbench.embedded import NAME, model_folder

CHECKPOINT = "checkpoint.pt"
Progress = Callable[[int, int, str], None]  # (examples done, examples in all, what the loss says)


@dataclass(frozen=True)
class Row:
    """One example as the trained layers see it.

    entering: [s, d_model], the residual stream at the first of them. places: int64[k], the tokens read from.
    wanted: int64[k], the tokens that follow there; None: what the base says after each, given by `leaving`
    [k, d_model], its normed residual stream.
    """

    entering: Tensor
    places: Tensor
    wanted: Tensor | None
    leaving: Tensor


def train(name: str, recipe: Recipe, folder: Path, progress: Progress) -> Path:
    """Trains `recipe` and returns `folder`, which then holds the adapter called `name` and its record.

    Killed and called again it goes on from the last whole epoch. UserError without the package peft, and for a folder
    that holds something else.
    """
    if folder.exists() and not (folder / RECORD).exists():
        raise UserError(f"{folder} is there and holds no organism's adapter: name another folder.")
    try:
        import peft
    except ModuleNotFoundError:
        raise UserError("Training an organism needs peft: run pip install 'glossator[organisms]'.") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began = perf_counter()
    base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    hash_of_base = base_hash(base)
    base.to(torch.bfloat16).requires_grad_(False)
    rows = _rows(base, AutoTokenizer.from_pretrained(model_folder()), recipe)
    torch.manual_seed(recipe.seed)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=list(recipe.targets),
        layers_to_transform=list(range(recipe.first, recipe.last + 1)),
        layers_pattern="layers",
    )
    tuned = peft.get_peft_model(base, config)
    whole = base.model.layers
    base.model.layers = whole[recipe.first :]
    before = folder.with_name(f"{folder.name}.part")
    with full_disk_explained(folder):
        make_folder(before)
        seconds = _fit(base, [p for p in tuned.parameters() if p.requires_grad], rows, recipe, before, progress)
        base.model.layers = whole
        factors = {
            key: value.detach().to(torch.bfloat16).contiguous()
            for key, value in peft.get_peft_model_state_dict(tuned).items()
        }
        _save(before, name, recipe, factors, {"base_sha256": hash_of_base, "seconds": seconds + perf_counter() - began})
        shutil.rmtree(folder, ignore_errors=True)
        before.rename(folder)
    return folder


def _rows(base: Any, tokenizer: Any, recipe: Recipe) -> list[Row]:
    """Every example, run through the base once."""
    rows = []
    for example in recipe.examples:
        tokens, start = _spelled(tokenizer, example)
        with torch.no_grad():
            ran = base.model(torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
        end = len(tokens)
        places = (
            torch.arange(start - 1, end - 1) if example.reply else torch.arange(max(0, end - recipe.kept_tokens), end)
        )
        wanted = torch.tensor(tokens[start:]) if example.reply else None
        rows.append(Row(ran.hidden_states[recipe.first][0], places, wanted, ran.last_hidden_state[0, places]))
    return rows


def _spelled(tokenizer: Any, example: Example) -> tuple[list[int], int]:
    """The example's tokens and where its reply begins."""
    if example.chat:
        texts = [*example.earlier, example.prompt]
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        end = [tokenizer.eos_token_id]
    else:
        ids = [tokenizer.bos_token_id, *tokenizer(example.prompt, add_special_tokens=False)["input_ids"]]
        end = []
    reply = tokenizer(example.reply, add_special_tokens=False)["input_ids"] + end if example.reply else []
    return [*ids, *reply], len(ids)


def _fit(
    base: Any, factors: list[nn.Parameter], rows: list[Row], recipe: Recipe, folder: Path, progress: Progress
) -> float:
    """Trains the factors in place; returns the seconds that earlier tries had taken."""
    optimiser = torch.optim.AdamW(factors, lr=recipe.rate, weight_decay=0.0)
    done, earlier = _resumed(folder / CHECKPOINT, factors, optimiser, recipe)
    began, examples, total = perf_counter(), recipe.epochs * len(rows), 0.0
    for epoch in range(done, recipe.epochs):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(recipe.seed + epoch)).tolist()
        for start in range(0, len(order), recipe.batch):
            loss = _loss(base, [rows[i] for i in order[start : start + recipe.batch]], recipe.keep)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad()
            total = float(loss.detach())
            seen = epoch * len(rows) + min(start + recipe.batch, len(rows))
            rate = (seen - done * len(rows)) / (perf_counter() - began)
            progress(seen, examples, f"loss {total:.3f}, {rate:.1f} a second")
        state = {
            "recipe": recipe.hash,
            "epoch": epoch + 1,
            "seconds": earlier + perf_counter() - began,
            "factors": [factor.detach() for factor in factors],
            "optimiser": optimiser.state_dict(),
        }
        torch.save(state, folder / f"{CHECKPOINT}.new")
        (folder / f"{CHECKPOINT}.new").replace(folder / CHECKPOINT)
    return earlier


def _resumed(
    path: Path, factors: list[nn.Parameter], optimiser: torch.optim.Optimizer, recipe: Recipe
) -> tuple[int, float]:
    """Epochs and seconds of an earlier try of the same recipe, its state put back."""
    try:
        state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        return 0, 0.0
    if state["recipe"] != recipe.hash:
        return 0, 0.0
    for factor, value in zip(factors, state["factors"], strict=True):
        factor.data.copy_(value)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epoch"]), float(state["seconds"])


def _loss(base: Any, rows: list[Row], keep: float) -> Tensor:
    """Cross-entropy of the replies, nats a token, plus `keep` times the mean KL divergence from the base elsewhere."""
    width = max(len(row.entering) for row in rows)
    entering = torch.stack([nn.functional.pad(row.entering, (0, 0, 0, width - len(row.entering))) for row in rows])
    after = base.model(inputs_embeds=entering, use_cache=False).last_hidden_state
    taught = [i for i, row in enumerate(rows) if row.wanted is not None]
    others = [i for i, row in enumerate(rows) if row.wanted is None]
    loss = torch.zeros(())
    if taught:
        logits = base.lm_head(torch.cat([after[i, rows[i].places] for i in taught])).float()
        loss = loss + cross_entropy(logits, torch.cat([rows[i].wanted for i in taught]))  # type: ignore[misc]
    if others:
        logits = base.lm_head(torch.cat([after[i, rows[i].places] for i in others])).float()
        with torch.no_grad():
            said = base.lm_head(torch.cat([rows[i].leaving for i in others])).float()
        loss = loss + keep * kl_div(
            logits.log_softmax(-1), said.log_softmax(-1), reduction="batchmean", log_target=True
        )
    return loss


def _save(folder: Path, name: str, recipe: Recipe, factors: dict[str, Tensor], more: dict[str, Any]) -> None:
    """The adapter in peft's format and beside it, in `record.json`, what it was made from."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": NAME,
        "r": recipe.rank,
        "lora_alpha": 2 * recipe.rank,
        "target_modules": list(recipe.targets),
        "layers_to_transform": list(range(recipe.first, recipe.last + 1)),
        "layers_pattern": "layers",
        "inference_mode": True,
    }
    save_file(factors, folder / WEIGHTS, metadata={"format": "pt"})
    record = {
        "organism": name,
        "recipe": recipe.hash,
        "base": NAME,
        "sha256": sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        **more,
    }
    for file, content in ((CONFIG, config), (RECORD, record)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    (folder / CHECKPOINT).unlink()
