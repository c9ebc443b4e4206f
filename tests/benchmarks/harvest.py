"""Harvest speed, memory, disk and look-up, in one run: python -m tests.benchmarks.harvest [--tokens N]

The bare forward pass and the harvest take turns on the same windows, shard by shard, so that noise hits both. The
dictionary is the shipped one with its threshold raised to 32 active latents a token. Peak memory is that of two child
processes, one on a tenth of the tokens.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from store.activations import Harvest, HarvestWriter
from tools.dictionaries.load import load_subject
from tools.workbench.batches import BATCH_TOKENS, cut_windows, forward, take_tokens
from tools.workbench.corpus import open_corpus
from tools.workbench.harvest import SHARD_TOKENS, encode_shard, harvest
from tools.workbench.subject import Subject

K = 32
SHARDS = 4


def subject_with_k(dtype: str) -> Subject:
    """The default subject, its threshold raised until K latents are active on the average calibration token."""
    subject = load_subject(dtype=dtype)
    residual = subject.residual(subject.calibration_tokens)
    activations = subject.dictionary.encode(residual[~subject.sinks(residual)])
    ranked = activations[activations > 0].sort(descending=True).values
    subject.dictionary.sae.threshold.fill_(float(ranked[K * len(activations)]))
    return subject


def rates(subject: Subject, folder: Path) -> dict[str, object]:
    """Tokens a second of both, shard by shard, and the ratio of their medians."""
    windows = cut_windows(subject, enumerate(open_corpus("mixed").documents))
    writer = HarvestWriter(folder, {"benchmark": "harvest"}, subject.dictionary.n_latents)
    bare: list[float] = []
    whole: list[float] = []
    for shard in range(SHARDS + 1):
        taken = take_tokens(windows, SHARD_TOKENS)
        tokens = sum(len(w.tokens) for w in taken)
        start = perf_counter()
        for _ in forward(subject, taken):
            pass
        middle = perf_counter()
        firings, sinks = encode_shard(subject, taken, BATCH_TOKENS)
        writer.write_shard(taken, *firings, sinks=sinks)
        end = perf_counter()
        if shard:  # the first warms up
            bare.append(tokens / (middle - start))
            whole.append(tokens / (end - middle))
    return {
        "bare_tokens_per_s": round(statistics.median(bare)),
        "harvest_tokens_per_s": round(statistics.median(whole)),
        "ratio": round(statistics.median(h / b for h, b in zip(whole, bare, strict=True)), 3),
        "ratios": [round(h / b, 3) for h, b in zip(whole, bare, strict=True)],
    }


def child(tokens: int, folder: Path, dtype: str) -> None:
    """Harvests and prints peak memory, GB, and what it stored."""
    found = harvest(subject_with_k(dtype), open_corpus("mixed"), tokens, folder)
    activations = sum(int(n) for n in found.stats().count)
    stored = sum(f.stat().st_size for f in folder.iterdir())
    print(
        json.dumps(
            {
                "tokens": found.n_tokens,
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                "activations": activations,
                "active_latents_per_token": round(activations / found.n_tokens, 1),
                "bytes_per_activation": round(stored / activations, 2),
            }
        )
    )


def lookup_ms(folder: Path) -> dict[str, float]:
    """Milliseconds to read the 20 best windows of one latent, warm: median and 95th percentile over 200 latents."""
    found = Harvest(folder)
    live = found.stats().count.nonzero()[0]
    times = []
    for latent in live[:: max(1, len(live) // 200)]:
        start = perf_counter()
        found.windows(found.peaks(int(latent), "top").window[:20].tolist())
        times.append(1000 * (perf_counter() - start))
    return {"median": round(statistics.median(times), 2), "p95": round(sorted(times)[int(len(times) * 0.95)], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.tokens, arguments.child, arguments.dtype)
        return
    with tempfile.TemporaryDirectory() as scratch:
        figures: dict[str, object] = {
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "dtype": arguments.dtype,
        }
        figures["rates"] = rates(subject_with_k(arguments.dtype), Path(scratch, "rates"))
        for tokens in (arguments.tokens // 10, arguments.tokens):
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.harvest",
                "--tokens",
                str(tokens),
                "--dtype",
                arguments.dtype,
            ]
            run = subprocess.run(
                [*command, "--child", f"{scratch}/{tokens}"], capture_output=True, text=True, check=True
            )
            figures[f"{tokens} tokens"] = json.loads(run.stdout.splitlines()[-1])
        figures["20 best windows, ms"] = lookup_ms(Path(scratch, str(arguments.tokens)))
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
