"""What a harvest looks like, in memory and on disk.

A harvest is a folder of immutable files and a manifest that names them with their hashes:

    manifest.json
    windows-00000.parquet       window, document, start, tokens                one row per window
    activations-00000.parquet   latent, window, position, activation           sorted by the first three
    latents.parquet             latent, count, sum, max, histogram             one row per latent
    samples.parquet             latent, kind, window, position, activation     kind is 'top' or 'sample'

DuckDB reads all of them in place ("window" is a word of SQL and needs its quotes there).

A harvest so small that samples.parquet would be a good part of it goes without: the same rows are then picked from
the shards when they are asked for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from store.disk import appearing, sha256_of
from store.ids import canonical_json
from store.types import Noun

Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

MANIFEST = "manifest.json"
LATENTS = "latents.parquet"
SAMPLES = "samples.parquet"
TOP, SAMPLE = 100, 200  # rows per latent and kind in samples.parquet
SAMPLES_SHARE = 1 / 12  # samples.parquet may hold this many rows per stored activation; else it is not written

# Bin edges of the histograms: half octaves from 2^-10 to 2^14; the first and last bin also take what lies outside.
EDGES: Float64s = 2.0 ** (np.arange(-20, 29) / 2)

WINDOW_SCHEMA = pa.schema(
    {"window": pa.int32(), "document": pa.int32(), "start": pa.int32(), "tokens": pa.list_(pa.int32())}
)
ACTIVATION_SCHEMA = pa.schema(
    {"latent": pa.int32(), "window": pa.int32(), "position": pa.int16(), "activation": pa.float32()}
)
SAMPLE_SCHEMA = ACTIVATION_SCHEMA.insert(1, pa.field("kind", pa.string()))
# How pyarrow writes firings: about three and a half bytes each.
FIRING_ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["latent", "kind", "position"],
    "column_encoding": {"window": "DELTA_BINARY_PACKED", "activation": "BYTE_STREAM_SPLIT"},
}


@dataclass(frozen=True, eq=False)
class Window:
    """One window of one document as the model saw it: `tokens` int32[n], the first being BOS.

    `start` is the offset, in the document's tokens, of the first token after BOS.
    """

    id: int
    document: int
    start: int
    tokens: Int32s


class Peaks(NamedTuple):
    """Firings of one latent: window int32[n], position int16[n] (BOS at 0), activation float32[n]."""

    window: Int32s
    position: Int16s
    activation: Float32s


class Firings(NamedTuple):
    """Firings of many latents: latent int32[n], window int32[n], position int16[n], activation float32[n]."""

    latent: Int32s
    window: Int32s
    position: Int16s
    activation: Float32s


@dataclass(frozen=True, eq=False)
class LatentStats:
    """Per latent: count int64[F] of firings, density float64[F] (share of tokens that are not sinks), max float32[F],
    mean float64[F] of the firings (0 where there are none), histogram int64[F, bins] over edges float64[bins + 1].
    """

    count: Int64s
    density: Float64s
    max: Float32s
    mean: Float64s
    histogram: Int64s
    edges: Float64s


class File(Noun):
    """A file of the harvest; size in bytes."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "File":
        return cls(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))


class Shard(Noun):
    """Two files, and how many of each thing they hold. `sinks` counts tokens that were masked as sinks."""

    windows: File
    activations: File
    first_window: int
    n_windows: int
    n_tokens: int
    sinks: int
    n_activations: int


class Manifest(Noun):
    """The whole harvest; `header` says where it came from and must be equal for a harvest to go on."""

    format: Literal[1] = 1
    header: dict[str, Any]
    n_latents: int
    shards: tuple[Shard, ...] = ()
    summary: tuple[File, ...] = ()
    complete: bool = False

    @property
    def n_windows(self) -> int:
        return sum(shard.n_windows for shard in self.shards)

    @property
    def n_activations(self) -> int:
        return sum(shard.n_activations for shard in self.shards)

    def files(self) -> list[File]:
        return [file for shard in self.shards for file in (shard.windows, shard.activations)] + list(self.summary)

    def save(self, folder: Path) -> None:
        with appearing(folder / MANIFEST) as path:
            path.write_text(canonical_json(self.model_dump(mode="json")) + "\n", "utf-8")
