"""Summarises the shards of a harvest per latent, one shard and one block of latents in memory at a time."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from store.activations.layout import (
    EDGES,
    FIRING_ENCODING,
    LATENTS,
    SAMPLE,
    SAMPLE_SCHEMA,
    SAMPLES,
    SAMPLES_SHARE,
    TOP,
    File,
    Firings,
    Float32s,
    Int16s,
    Int32s,
    Manifest,
    Peaks,
)
from store.activations.table import SortedTable
from store.disk import appearing

LATENTS_PER_BLOCK = 8192
SAMPLES_PER_GROUP = 8192
BINS = len(EDGES) - 1


def write_summary(folder: Path, manifest: Manifest) -> tuple[File, ...]:
    """Write latents.parquet and samples.parquet (see layout.py). They depend on nothing but the shards."""
    shards = [SortedTable(folder / shard.activations.name) for shard in manifest.shards]
    sampled = manifest.n_latents * (TOP + SAMPLE) <= manifest.n_activations * SAMPLES_SHARE
    stats = []
    with ExitStack() as stack:
        samples = None
        if sampled:
            path = stack.enter_context(appearing(folder / SAMPLES))
            samples = stack.enter_context(pq.ParquetWriter(path, SAMPLE_SCHEMA, **FIRING_ENCODING))
        for low in range(0, manifest.n_latents, LATENTS_PER_BLOCK):
            high = min(low + LATENTS_PER_BLOCK, manifest.n_latents)
            block = _Block(low, high)
            for shard in shards:
                block.add(Firings(**shard.between(low, high - 1)))
            stats.append(block.stats())
            if samples is not None:
                samples.write_table(block.samples(), row_group_size=SAMPLES_PER_GROUP)
    with appearing(folder / LATENTS) as path:
        pq.write_table(pa.concat_tables(stats), path, compression="zstd")
    return tuple(File.of(folder / name) for name in (LATENTS, *([SAMPLES] if sampled else [])))


def samples_of(latent: int, firings: Peaks) -> pa.Table:
    """The rows that samples.parquet would hold for a latent with these firings."""
    block = _Block(latent, latent + 1)
    block.add(Firings(np.full(len(firings.window), latent, np.int32), *firings))
    return block.samples()


class _Block:
    """Running statistics and samples of the latents low..high-1."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.n = low, high - low
        self.count = np.zeros(self.n, np.int64)
        self.sum = np.zeros(self.n)
        self.max = np.zeros(self.n, np.float32)
        self.histogram = np.zeros((self.n, BINS), np.int64)
        self.top = _Smallest(self.n, TOP)
        self.sample = _Smallest(self.n, SAMPLE)

    def add(self, firings: Firings) -> None:
        if not len(firings.latent):
            return
        latent, activation = firings.latent - self.low, firings.activation
        self.count += np.bincount(latent, minlength=self.n)
        self.sum += np.bincount(latent, activation, minlength=self.n)
        starts = _starts(latent)
        present = latent[starts]
        self.max[present] = np.maximum(self.max[present], np.maximum.reduceat(activation, starts))
        bins = np.clip(np.searchsorted(EDGES, activation, side="right") - 1, 0, BINS - 1)
        flat = np.bincount(latent.astype(np.int64) * BINS + bins, minlength=self.n * BINS)
        self.histogram += flat.reshape(self.n, BINS)
        per_window = _starts(latent, firings.window)
        peak = np.uint32(0xFFFFFFFF) - activation.view(np.uint32)  # positive floats order like their bits
        for best, rank in ((self.top, peak), (self.sample, _hash(firings))):
            best.add(latent, rank, firings, _first_smallest(rank, per_window))

    def stats(self) -> pa.Table:
        values = pa.array(self.histogram.ravel())
        return pa.table(
            {
                "latent": np.arange(self.low, self.low + self.n, dtype=np.int32),
                "count": self.count,
                "sum": self.sum,
                "max": self.max,
                "histogram": pa.FixedSizeListArray.from_arrays(values, BINS),
            }
        )

    def samples(self) -> pa.Table:
        tables = []
        for kind, best in (("top", self.top), ("sample", self.sample)):
            latent = (best.key >> np.uint64(32)).astype(np.int32) + self.low
            columns = [latent, [kind] * len(latent), *best.columns]
            tables.append(pa.table(columns, schema=SAMPLE_SCHEMA))
        return pa.concat_tables(tables).sort_by([(name, "ascending") for name in ("latent", "kind", "window")])


class _Smallest:
    """The `keep` firings of smallest rank (uint32) of each of `n` latents; of equal ranks the earlier window's."""

    def __init__(self, n: int, keep: int) -> None:
        self.keep = keep
        self.key = np.empty(0, np.uint64)  # latent in the upper half, rank in the lower; ascending
        self.columns: tuple[Int32s, Int16s, Float32s] = (
            np.empty(0, np.int32),
            np.empty(0, np.int16),
            np.empty(0, np.float32),
        )
        self.limit = np.full(n, 0xFFFFFFFF, np.uint32)  # ranks from here on have no chance

    def add(self, latent: Int32s, rank: npt.NDArray[np.uint32], firings: Firings, chosen: npt.NDArray[np.intp]) -> None:
        """Add the `chosen` ones of `firings`, which come after all earlier ones by window."""
        chosen = chosen[rank[chosen] < self.limit[latent[chosen]]]
        key = (latent[chosen].astype(np.uint64) << np.uint64(32)) | rank[chosen]
        key = np.concatenate([self.key, key])
        order = np.argsort(key, kind="stable")
        latent = (key[order] >> np.uint64(32)).astype(np.int32)
        starts = _starts(latent)
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        kept = order[place < self.keep]
        self.key = key[kept]
        window, position, activation = self.columns
        self.columns = (
            np.concatenate([window, firings.window[chosen]])[kept],
            np.concatenate([position, firings.position[chosen]])[kept],
            np.concatenate([activation, firings.activation[chosen]])[kept],
        )
        last = order[place == self.keep - 1]
        self.limit[(key[last] >> np.uint64(32)).astype(np.int64)] = key[last].astype(np.uint32)


def _starts(*sorted_keys: Int32s) -> npt.NDArray[np.intp]:
    """Where each run of equal keys begins."""
    changed = np.zeros(len(sorted_keys[0]), bool)
    changed[:1] = True
    for key in sorted_keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def _first_smallest(rank: npt.NDArray[Any], starts: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The index of the smallest rank of each run, the first of equals."""
    run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rank))))
    smallest = np.flatnonzero(rank == np.minimum.reduceat(rank, starts)[run])
    return smallest[_starts(run[smallest].astype(np.int32))]


def _hash(firings: Firings) -> npt.NDArray[np.uint32]:
    """A pseudo-random rank that depends only on which firing it is."""
    place = (firings.window.astype(np.uint64) << np.uint64(15)) | firings.position.astype(np.uint64)
    return (_mix(_mix(firings.latent.astype(np.uint64)) ^ place) >> np.uint64(32)).astype(np.uint32)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea and Flood 2014, figure 16)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
