"""A small world with known truth: words that are tokens, latents that fire by a written rule, judges that know it.

The planted subject has no model: its residual stream is the latents' activations, so that every tool's real code runs
on it and every answer can be worked out by hand.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prompts.ask import Answer
from prompts.errors import NoAnswer, Unparseable
from prompts.providers import Endpoint, Role
from store.activations import Harvest, HarvestWriter, Window
from store.ledger import Ledger
from tools.workbench.context import Context
from tools.workbench.subject import Subject

COLOURS = (" red", " green", " blue")
ANIMALS = (" cat", " dog", " cow")
FILLERS = tuple(f" {a}{b}" for a in "bdfglmnprst" for b in ("a", "e", "i", "o", "u", "ay"))
WORDS = ("<s>", " all", " except", " river", " bank", *COLOURS, *ANIMALS, *FILLERS)
EXCEPT, COLOUR, ANIMAL, DEAD, DENSE, RARE, BANK, EVEN, N_LATENTS = range(9)
MEANING = {"colours": COLOURS, "animals": ANIMALS, "the word except": (" except",), "the word bank": (" bank",)}
ID = {word: index for index, word in enumerate(WORDS)}


def fires(words: Sequence[str]) -> np.ndarray:
    """float32[len(words), N_LATENTS]: the truth. `words` starts with BOS, which never fires."""
    truth = np.zeros((len(words), N_LATENTS), np.float32)
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        if i == 0:
            continue
        truth[i, EXCEPT] = 8.0 * (word == " except" and before == " all")
        truth[i, COLOUR] = 4.0 + COLOURS.index(word) + 0.01 * (ID[before] % 50) if word in COLOURS else 0
        truth[i, ANIMAL] = 3.0 + ANIMALS.index(word) if word in ANIMALS else 0
        truth[i, DENSE] = 1.0 + 0.01 * ID[word]
        truth[i, RARE] = 2.0 * (word == " red" and before == " blue" and words[i - 2] == " green")
        truth[i, BANK] = 5.0 * (word == " bank" and before == " river")
        truth[i, EVEN] = 1.0 * (word in FILLERS and ID[word] % 7 == 0)
    return truth


class Words:
    """A tokenizer whose tokens are the words of this world."""

    bos_token_id = eos_token_id = 0

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ID[f" {word}"] for word in text.split()] for text in texts]}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(WORDS[i] for i in ids)

    def batch_decode(self, rows: Sequence[Sequence[int]], **_: Any) -> list[str]:
        return [self.decode(row) for row in rows]


class _Dictionary:
    """Encodes the planted residual as it is; the animals' decoder direction is near the colours'."""

    name, hook, n_latents, d_model, fingerprint = "planted", "blocks.0.hook_resid_pre", N_LATENTS, N_LATENTS, "planted"
    is_transcoder = False

    def __init__(self) -> None:
        self.decoder = torch.eye(N_LATENTS)
        self.decoder[ANIMAL] = torch.nn.functional.normalize(self.decoder[ANIMAL] + 2 * self.decoder[COLOUR], dim=0)

    def encode(self, residual: Tensor) -> Tensor:
        return residual.clone()


class PlantedSubject(Subject):
    """The world as a subject: residual [b, s, N_LATENTS] is the truth, BOS the only sink."""

    typical_norm = 1.0
    fingerprint = "planted"
    context = 2048

    def __init__(self) -> None:
        self.name, self.hook, self.d_model = "world", _Dictionary.hook, N_LATENTS
        self.tokenizer, self.device, self.dtype = Words(), torch.device("cpu"), torch.float32
        self._dictionary = _Dictionary()

    def residual(self, tokens: Tensor) -> Tensor:
        rows = [fires([WORDS[i] for i in row]) for row in tokens.tolist()]
        residual = torch.from_numpy(np.stack(rows))
        residual[:, 0] = 1000.0  # a sink that would fire every latent, were it not masked
        return residual


def documents(n: int = 400, length: int = 40, seed: int = 0) -> list[list[str]]:
    """Random filler with, here and there, a colour, an animal, "all except", "except", "river bank", "bank"."""
    rng = np.random.default_rng(seed)
    inserts = [[c] for c in COLOURS] + [[a] for a in ANIMALS]
    inserts += 3 * [[" all", " except"], [" river", " bank"]] + [[" except"], [" bank"], [" all"], [" river"]]
    texts = []
    for number in range(n):
        words = [str(w) for w in rng.choice(FILLERS, length)]
        for _ in range(int(rng.integers(0, 3))):
            at = int(rng.integers(1, length - 4))
            insert = inserts[int(rng.integers(len(inserts)))]
            words[at : at + len(insert)] = insert
        if number % 100 == 50:
            words[5:8] = [" green", " blue", " red"]
        texts.append(["<s>", *words])
    return texts


def plant(folder: Path, texts: list[list[str]]) -> Harvest:
    """A harvest of these texts, one document and one window each."""
    writer = HarvestWriter(folder, {"corpus_hash": "planted", "subject": "planted"}, N_LATENTS)
    windows = [Window(i, i, 0, np.array([ID[w] for w in words], np.int32)) for i, words in enumerate(texts)]
    truth = np.stack([fires(words) for words in texts])  # [windows, s, N_LATENTS]
    window, position, latent = truth.nonzero()
    columns = (latent.astype(np.int32), window.astype(np.int32), position.astype(np.int16))
    writer.write_shard(windows, *columns, truth[window, position, latent], sinks=len(texts))
    writer.finish()
    return Harvest(folder)


Judge = Callable[[str, str, str], float | None]  # (template, explanation, snippet) -> margin, None: no answer


def oracle(template: str, explanation: str, snippet: str) -> float:
    """Knows what an explanation means and reads: is the snippet, or every marked token, what it describes?"""
    words = {word.strip() for word in MEANING[explanation]}
    if "fuzzing" in template:
        marked = [part.partition(">>")[0] for part in snippet.split("<<")[1:]]
        return 5.0 if marked and set(marked) <= words else -5.0
    return 5.0 if words & set(snippet.split()) else -5.0


class FakeLLM:
    """An LLM whose judge is a function of template, explanation and snippet, and whose explainer says `reply`."""

    def __init__(self, judge: Judge = oracle, reply: str = "colours", capable: bool = False, cut: bool = False) -> None:
        self.endpoints = {role: Endpoint(model="fake", capable=capable) for role in Role}
        self.judge, self.reply, self.cut = judge, reply, cut
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def ask(self, role: Role, template: str, values: Mapping[str, Any], schema: Any = None, **_: Any) -> Answer:
        self.asked.append((template, values))
        if role is not Role.JUDGE:
            return Answer("call", self.reply, None, None, False, self.cut)
        if "snippets" in values:
            margins = [self.judge(template, values["explanation"], snippet) for snippet in values["snippets"]]
            return Answer("call", "", schema(verdicts=[int((m or 0) > 0) for m in margins]), None, False)
        margin = self.judge(template, values["explanation"], values["snippet"])
        if margin is None:
            raise Unparseable("no answer")
        logprobs = {"1": -math.log1p(math.exp(-margin)), "0": -math.log1p(math.exp(margin))}
        return Answer("call", "1" if margin > 0 else "0", None, logprobs, False)

    async def ask_many(self, role: Role, template: str, values: Any, **more: Any) -> list[Answer | NoAnswer]:
        answers: list[Answer | NoAnswer] = []
        for each in values:
            try:
                answers.append(await self.ask(role, template, each, **more))
            except NoAnswer as failure:
                answers.append(failure)
        return answers


def planted_context(folder: Path, llm: FakeLLM | None = None, texts: list[list[str]] | None = None) -> Context:
    """A context on the planted world, its harvest in `folder`."""
    harvest = plant(folder / "harvest", texts or documents())
    return Context(PlantedSubject(), Ledger(folder / "store.duckdb"), harvest, llm)  # type: ignore[arg-type]
