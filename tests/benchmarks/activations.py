"""What do a million tokens of activations cost, on disk and to read?

    python -m tests.benchmarks.activations [--shards 16]

Synthetic data with the statistics of a real harvest: 4,608 latents of very different density, 32 active per token,
lognormal activations, 65,536 tokens a shard.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from store.activations import Harvest, HarvestWriter
from tests.store.harvests import HEADER, N_LATENTS, shard


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(seconds, q)) * 1000, 2) for q in (50, 95, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=16)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "harvest"
        writer = HarvestWriter(folder, HEADER, N_LATENTS)
        writing = 0.0
        for number in range(shards):
            arguments = shard(number)
            started = time.perf_counter()
            writer.write_shard(*arguments, sinks=256)
            writing += time.perf_counter() - started
        started = time.perf_counter()
        writer.finish()
        finishing = time.perf_counter() - started
        harvest = Harvest(folder)
        stored = int(harvest.stats().count.sum())
        size = sum(path.stat().st_size for path in folder.iterdir())
        peaks, windows, everything = [], [], []
        for latent in range(0, N_LATENTS, 23):
            clock = [time.perf_counter()]
            top = harvest.peaks(latent, "top")
            clock.append(time.perf_counter())
            harvest.windows(top.window[:20])
            clock.append(time.perf_counter())
            harvest.activations(latent)
            clock.append(time.perf_counter())
            for times, start, end in zip((peaks, windows, everything), clock, clock[1:], strict=False):
                times.append(end - start)
    both = [first + second for first, second in zip(peaks, windows, strict=True)]
    report = {
        "tokens": harvest.n_tokens,
        "activations": stored,
        "bytes_per_activation": round(size / stored, 3),
        "write_shard_s": round(writing / shards, 3),
        "finish_s_per_shard": round(finishing / shards, 3),
        "peaks_ms": percentiles(peaks),
        "twenty_best_windows_ms": percentiles(both),
        "all_firings_of_a_latent_ms": percentiles(everything),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
