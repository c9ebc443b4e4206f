"""A Parquet file sorted by its first column, read a few row groups at a time."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


class SortedTable:
    """Reads stretches of the file at `path` in place; only its footer stays in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _footer(self) -> tuple[pq.FileMetaData, npt.NDArray[np.int64]]:
        """Metadata and [groups, 2]: the smallest and largest key of each row group."""
        metadata = pq.read_metadata(self.path)
        statistics = [metadata.row_group(i).column(0).statistics for i in range(metadata.num_row_groups)]
        bounds = [(s.min, s.max) if s else (1, 0) for s in statistics]  # a group without rows has no statistics
        return metadata, np.array(bounds, np.int64).reshape(-1, 2)

    def groups(self, low: int, high: int) -> list[int]:
        """The row groups that may hold keys low..high (inclusive)."""
        _, bounds = self._footer
        return [int(group) for group in np.flatnonzero((bounds[:, 0] <= high) & (bounds[:, 1] >= low))]

    def read(self, groups: list[int]) -> pa.Table:
        metadata, _ = self._footer
        with pq.ParquetFile(self.path, metadata=metadata, memory_map=True) as file:
            return file.read_row_groups(groups, use_threads=False)

    def between(self, low: int, high: int) -> dict[str, npt.NDArray[Any]]:
        """The columns, by name, of the rows whose key lies in low..high (inclusive)."""
        columns = to_numpy(self.read(self.groups(low, high)))
        key = next(iter(columns.values()))
        rows = slice(*np.searchsorted(key, [low, high + 1]))
        return {name: values[rows] for name, values in columns.items()}

    def pieces(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """All columns, one row group after the other."""
        for group in range(self._footer[0].num_row_groups):
            yield to_numpy(self.read([group]))


def to_numpy(table: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """The columns of plain numbers or strings as arrays."""
    return {name: table.column(name).to_numpy() for name in table.column_names}
