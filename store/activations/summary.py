"""What a harvest says of each latent, gathered in one pass as the shards go by."""

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
    Peaks,
)
from store.disk import appearing

SAMPLES_PER_GROUP = 8192
BINS = len(EDGES) - 1


def samples_of(latent: int, firings: Peaks) -> pa.Table:
    """The rows that samples.parquet would hold for a latent with these firings."""
    summary = Summary(1, first=latent)
    summary.add(Firings(np.full(len(firings.window), latent, np.int32), *firings))
    return summary.samples()


class Summary:
    """Running statistics and samples of `n` latents from `first` on, kept while their firings go by.

    At most 6 kB a latent: what a decoder row of 1,500 float32 takes.
    """

    def __init__(self, n: int, first: int = 0) -> None:
        self.first, self.n = first, n
        self.count = np.zeros(self.n, np.int64)
        self.sum = np.zeros(self.n)
        self.max = np.zeros(self.n, np.float32)
        self.histogram = np.zeros((self.n, BINS), np.int64)
        self.top = _Smallest(self.n, TOP)
        self.sample = _Smallest(self.n, SAMPLE)

    def add(self, firings: Firings) -> None:
        """Add `firings`, sorted by latent, window and position, whose windows come after all earlier ones."""
        if not len(firings.latent):
            return
        latent, activation = firings.latent - self.first, firings.activation
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

    def write(self, folder: Path) -> tuple[File, ...]:
        """Write latents.parquet and, unless it would be a good part of the harvest, samples.parquet (see layout.py)."""
        names = [LATENTS]
        with appearing(folder / LATENTS) as path:
            pq.write_table(self.stats(), path, compression="zstd")
        if self.n * (TOP + SAMPLE) <= int(self.count.sum()) * SAMPLES_SHARE:
            names.append(SAMPLES)
            with appearing(folder / SAMPLES) as path:
                pq.write_table(self.samples(), path, row_group_size=SAMPLES_PER_GROUP, **FIRING_ENCODING)
        return tuple(File.of(folder / name) for name in names)

    def stats(self) -> pa.Table:
        values = pa.array(self.histogram.ravel())
        return pa.table(
            {
                "latent": np.arange(self.first, self.first + self.n, dtype=np.int32),
                "count": self.count,
                "sum": self.sum,
                "max": self.max,
                "histogram": pa.FixedSizeListArray.from_arrays(values, BINS),
            }
        )

    def samples(self) -> pa.Table:
        tables = []
        for kind, best in (("top", self.top), ("sample", self.sample)):
            latent = (best.key >> np.uint64(32)).astype(np.int32) + self.first
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
