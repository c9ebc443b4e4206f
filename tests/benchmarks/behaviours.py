"""What behaviours cost to measure: python -m tests.benchmarks.behaviours [--prompts N] [--tokens N] [--texts N]

writing: replies to prompts of different length written at once, padded, beside one by one with the same cache, in
processor seconds; how many are the same, token by token. One in `--every` is written alone, since that is slow.

reading: activations for probes at every layer's residual stream, in forward passes over the same texts (processor
seconds of whole passes with logits, the same batches; the least of `--repeats`), with and without the surface's
log-probabilities; then read again, from the cache.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from time import process_time

import torch

from store.ledger import Ledger
from tools.dictionaries.load import load_subject
from tools.workbench.activations import FOLDER, Case, batches, read_activations
from tools.workbench.context import Context
from tools.workbench.sites import At
from tools.workbench.subject import Subject
from tools.workbench.writing import Turn, conversation, written

THINGS = ("apple", "river", "stone", "cloud", "lamp", "garden", "window", "letter", "music", "bread", "ocean", "forest")
FRAMES = ("What is a {}?", "Tell me something about the {} that most people do not know.", "Describe one {}, briefly.")


def writing(subject: Subject, n: int, tokens: int, every: int) -> dict[str, object]:
    asked = [FRAMES[i % len(FRAMES)].format(THINGS[i % len(THINGS)]) for i in range(n)]
    prompts = [conversation(subject, [Turn("user", text)]) for text in asked]
    alone = range(0, n, every)
    written(subject, prompts[:1], 1)  # the first pass is slower
    begun = process_time()
    together = written(subject, prompts, tokens)
    middle = process_time()
    single = [written(subject, [prompts[i]], tokens)[0] for i in alone]
    end = process_time()
    rates = [sum(map(len, texts)) / seconds for texts, seconds in ((together, middle - begun), (single, end - middle))]
    return {
        "prompts": n,
        "lengths": sorted({len(ids) for ids in prompts}),
        "tokens_per_s_together": round(rates[0], 1),
        "tokens_per_s_alone": round(rates[1], 1),
        "ratio": round(rates[0] / rates[1], 1),
        "same": sum(text == together[i] for i, text in zip(alone, single, strict=True)),
        "of": len(single),
    }


def reading(subject: Subject, n: int, repeats: int) -> dict[str, object]:
    texts = [topics[key][: 40 + 20 * (i % 8)] for i, key in enumerate(sorted(topics)[:n])]
    tokens = [(subject.bos, *ids) for ids in subject.tokenize(texts)]
    cases = [Case(ids, (len(ids) - 1,), tuple(range(1, len(ids)))) for ids in tokens]
    sites: list[At] = [("resid_pre", layer) for layer in range(subject.n_layers)]

    def passes() -> None:
        for batch in batches(tokens):
            padded = torch.full((len(batch), max(map(len, batch))), subject.bos)
            for row, ids in enumerate(batch):
                padded[row, : len(ids)] = torch.tensor(ids)
            subject.logits(padded)

    with tempfile.TemporaryDirectory() as folder:
        context = Context(subject, Ledger(Path(folder) / "store.duckdb"))

        def read(surface: bool, afresh: bool) -> None:
            if afresh:
                shutil.rmtree(Path(folder) / FOLDER, ignore_errors=True)
            read_activations(context, cases, sites, surface)

        passes()
        read(True, afresh=True)  # the first time is slower
        ways = {
            "passes": passes,
            "read": lambda: read(False, afresh=True),
            "read_with_surface": lambda: read(True, afresh=True),
            "read_again": lambda: read(True, afresh=False),
        }
        seconds = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                begun = process_time()
                way()
                seconds[name].append(process_time() - begun)
    least = {name: min(each) for name, each in seconds.items()}
    return {
        "texts": n,
        "tokens": sum(map(len, tokens)),
        "layers": len(sites),
        **{f"{name}_in_passes": round(least[name] / least["passes"], 3) for name in ways if name != "passes"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    subject = load_subject(dtype="float32")
    found = {
        "writing": writing(subject, arguments.prompts, arguments.tokens, arguments.every),
        "reading": reading(subject, arguments.texts, arguments.repeats),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
