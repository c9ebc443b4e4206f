"""Activations that were read at chosen tokens, kept so that no text is read twice: one Parquet file a site, fp16.

A file has the column `values`, a list of fp16 of equal length a row, one row a text; a text with nothing to read there
is NULL. Values are divided by a power of two, `scale` in the metadata, where fp16 would not hold them. DuckDB reads the
files in place. It is a cache: files may go, the oldest first when it grows too large, and are then read again.
"""

import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.activations.layout import Float32s
from store.disk import appearing
from store.fetch import alone

MOST_BYTES = 2 * 1024**3  # of the folder
LARGEST = 2.0**15  # of a value as it is kept


class Vectors:
    """The vectors kept in `folder`, each array under a key that says what it is of."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def load(self, key: str) -> Float32s | None:
        """float32[n, d], NaN in rows with nothing to read; None when it is not kept, or damaged."""
        path = self._path(key)
        try:
            table = pq.read_table(path, memory_map=True)
            os.utime(path)  # the oldest go first
        except (OSError, pa.ArrowException):
            return None
        metadata = table.schema.metadata or {}
        column = table["values"].combine_chunks()
        flat = column.flatten().to_numpy()
        if metadata.get(b"sha256") != sha256(flat.tobytes()).hexdigest().encode():
            return None
        values = np.full((len(column), column.type.list_size), np.nan, np.float32)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        values[there] = flat.reshape(-1, column.type.list_size).astype(np.float32) * float(metadata[b"scale"])
        return values

    def save(self, key: str, values: Float32s) -> Float32s:
        """Keeps float32[n, d], finite but for rows that are all NaN, and returns them as they will be loaded."""
        there = ~np.isnan(values).any(axis=1)
        largest = float(np.abs(values[there]).max(initial=0.0))
        scale = 2.0 ** max(0, int(np.ceil(np.log2(largest / LARGEST)))) if largest > LARGEST else 1.0
        halves = (values[there] / scale).astype(np.float16)
        rows = np.zeros((len(values), values.shape[1]), np.float16)
        rows[there] = halves
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), values.shape[1], mask=pa.array(~there))
        metadata = {"scale": repr(scale), "sha256": sha256(halves.tobytes()).hexdigest()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / "writing.lock"):
            with appearing(self._path(key)) as part:
                pq.write_table(pa.table({"values": column}).replace_schema_metadata(metadata), part, compression="zstd")
            self._trim()
        kept = np.full(values.shape, np.nan, np.float32)
        kept[there] = halves.astype(np.float32) * scale
        return kept

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _trim(self) -> None:
        """Removes the files used longest ago until the folder is small enough; the newest stays."""
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.parquet"))
        held = sum(size for _, size, _ in found)
        for _, size, path in found[:-1]:
            if held <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            held -= size
