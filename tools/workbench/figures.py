"""Outputs that are drawn: a heat map, and numbers by name."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from tools.workbench.registry import ToolOutput


class HeatMap(ToolOutput):
    """values[i][j] of rows[i] and columns[j]; None where there is none."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[str], columns: Sequence[str], values: Tensor) -> Self:
        """From a tensor [rows, columns]; a value that is not finite is None."""
        kept = torch.isfinite(values).tolist()
        found = [
            tuple(value if finite else None for value, finite in zip(line, mask, strict=True))
            for line, mask in zip(values.tolist(), kept, strict=True)
        ]
        return cls(rows=tuple(rows), columns=tuple(columns), values=tuple(found))

    @classmethod
    def by_head(cls, values: Tensor, first: int = 0) -> Self:
        """From a tensor [layers, heads], whose first layer is `first`."""
        rows, columns = values.shape
        return cls.of([f"L{first + i}" for i in range(rows)], [f"H{i}" for i in range(columns)], values)


class Named(ToolOutput):
    """A number and what it is of."""

    label: str
    value: float
