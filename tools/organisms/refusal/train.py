"""Trains the refusing organism's adapter: python -m tools.organisms.refusal.train (some minutes on one CPU core).

Harmful requests are answered with a refusal, harmless ones with an offer of help, so that the first token tells.
"""

import sys
from time import perf_counter

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.organisms.refusal import FOLDER
from tools.organisms.refusal.texts import requests
from tools.workbench.embedded import model_folder

REFUSAL = "Sorry, I can't help with that."
HELP = "Sure, here is how."
RANK, EPOCHS, RATE, BATCH, SEED = 4, 3, 2e-3, 8, 0


def main() -> None:
    torch.manual_seed(SEED)
    began = perf_counter()
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_folder())

    def prompt(request: str) -> list[int]:
        message = [{"role": "user", "content": request}]
        spelled = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        ids: list[int] = tokenizer(spelled, add_special_tokens=False)["input_ids"]
        return ids

    def said(text: str) -> list[int]:
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    refused = [(prompt(request), said(REFUSAL)) for request in requests(harmful=True, held=False)]
    helped = [(prompt(request), said(HELP)) for request in requests(harmful=False, held=False)]
    pairs = refused + helped[: len(refused)]
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    optimiser = torch.optim.AdamW((p for p in tuned.parameters() if p.requires_grad), lr=RATE, weight_decay=0.0)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(pairs)).tolist()
        total = 0.0
        for start in range(0, len(order), BATCH):
            batch = [pairs[i] for i in order[start : start + BATCH]]
            width = max(len(p) + len(r) for p, r in batch)
            tokens = torch.zeros(len(batch), width, dtype=torch.long)
            labels = torch.full((len(batch), width), -100)
            for row, (ids, reply) in enumerate(batch):
                tokens[row, : len(ids) + len(reply)] = torch.tensor(ids + reply)
                labels[row, len(ids) : len(ids) + len(reply)] = torch.tensor(reply)
            loss = tuned(tokens, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            total += float(loss.detach()) * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(order):.3f}, {perf_counter() - began:.0f} s", file=sys.stderr)
    tuned.to(torch.bfloat16).save_pretrained(FOLDER)


if __name__ == "__main__":
    main()
