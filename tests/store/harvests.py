"""Synthetic harvests with the statistics of real ones: latents of very different density, lognormal activations."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from store.activations import HarvestWriter, Window

N_LATENTS, PER_TOKEN, CONTEXT, VOCABULARY = 4608, 32, 256, 49152
F, TOKENS, SHARDS = 40, 4096, 3  # a small harvest: 48 windows
HEADER = {"subject": "synthetic", "seed": 0, "dtype": "float32"}


def shard(number: int, n_tokens: int = 65_536, n_latents: int = N_LATENTS, per_token: int = PER_TOKEN):
    """The arguments of `HarvestWriter.write_shard` for one shard, the firings in random order."""
    rng = np.random.default_rng([number, n_tokens])
    weight = np.random.default_rng(0).lognormal(0, 1.2, n_latents).cumsum()
    drawn = np.searchsorted(weight, rng.random(n_tokens * per_token) * weight[-1])
    key = np.unique(np.minimum(drawn, n_latents - 1) * n_tokens + np.repeat(np.arange(n_tokens), per_token))
    latent, token = np.divmod(rng.permuted(key), n_tokens)
    n_windows = n_tokens // CONTEXT
    first = number * n_windows
    windows = [
        Window(
            first + i,
            (first + i) // 3,
            (first + i) % 3 * (CONTEXT - 1),
            rng.integers(0, VOCABULARY, CONTEXT).astype(np.int32),
        )
        for i in range(n_windows)
    ]
    activation = rng.lognormal(1.0, 1.0, len(key)).astype(np.float32)
    window, position = (first + token // CONTEXT).astype(np.int32), (token % CONTEXT).astype(np.int16)
    return windows, latent.astype(np.int32), window, position, activation


def small(number: int):
    """A shard of the small harvest."""
    return shard(number, n_tokens=TOKENS, n_latents=F, per_token=6)


def write(folder: Path, shards: Iterator, n_latents: int = N_LATENTS) -> HarvestWriter:
    """Write what is still missing of `shards` and finish."""
    writer = HarvestWriter(folder, HEADER, n_latents)
    done = writer.shards_done
    for number, arguments in enumerate(shards):
        if number >= done:
            writer.write_shard(*arguments, sinks=len(arguments[0]))
    writer.finish()
    return writer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
