"""Writes a harvest shard by shard. Killed at any moment, it goes on after the last shard the manifest names."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from store.activations.layout import (
    ACTIVATION_SCHEMA,
    FIRING_ENCODING,
    MANIFEST,
    WINDOW_SCHEMA,
    File,
    Firings,
    Float32s,
    Int16s,
    Int32s,
    Manifest,
    Shard,
    Window,
)
from store.activations.summary import Summary
from store.activations.table import SortedTable
from store.disk import appearing, full_disk_explained
from store.errors import UserError
from store.ids import canonical_json

SIGNIFICANT_BITS = 12  # of an activation: relative error at most 2^-12
WINDOWS_PER_GROUP = 64
ACTIVATIONS_PER_GROUP = 32_768


class HarvestWriter:
    """Appends shards to the harvest in `folder`, of `n_latents` latents.

    Raises UserError when the folder holds a harvest with another header or number of latents, when its manifest
    cannot be read, and when another process is writing to it.
    """

    def __init__(self, folder: Path, header: dict[str, Any], n_latents: int) -> None:
        self.folder = folder
        with full_disk_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "writer.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is harvesting into {folder}; wait for it, or name another harvest"
            ) from None
        fresh = Manifest(header=json.loads(canonical_json(header)), n_latents=n_latents)
        self._manifest = self._resume(fresh) if (folder / MANIFEST).exists() else fresh
        named = {file.name for file in self._manifest.files()}
        for path in folder.iterdir():
            if path.suffix in (".parquet", ".tmp") and path.name not in named:
                path.unlink()  # left by a run that was killed
        self._summary = Summary(n_latents)
        if not self.complete:
            for shard in self._manifest.shards:
                self._summary.add(Firings(**SortedTable(folder / shard.activations.name).between(0, n_latents - 1)))

    def _resume(self, fresh: Manifest) -> Manifest:
        try:
            found = Manifest.model_validate_json((self.folder / MANIFEST).read_bytes())
        except ValidationError:
            raise UserError(f"{self.folder / MANIFEST} cannot be read; delete the folder to harvest again") from None
        if found.header != fresh.header or found.n_latents != fresh.n_latents:
            before, after = ({**m.header, "latents": m.n_latents} for m in (found, fresh))
            differ = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
            raise UserError(
                f"{self.folder} holds a harvest of something else (other {', '.join(differ)}); "
                "name another harvest, or delete the folder"
            )
        return found

    @property
    def shards_done(self) -> int:
        """How many shards are safely on disk."""
        return len(self._manifest.shards)

    @property
    def complete(self) -> bool:
        """Whether `finish` has been here."""
        return self._manifest.complete

    def write_shard(
        self,
        windows: Sequence[Window],
        latent: Int32s,
        window: Int32s,
        position: Int16s,
        activation: Float32s,
        sinks: int = 0,
    ) -> None:
        """Write the next shard: its windows, numbered on from the last shard's, and their firings in any order.

        Shapes: latent, window, position and activation are [n]; activations are positive. `sinks` is the number of
        tokens in these windows that were masked as sinks. Raises ValueError for firings that cannot be.
        """
        number, first = self.shards_done, self._manifest.n_windows
        order = _sorted(windows, first, latent, window, position, activation, self._manifest.n_latents)
        firings = Firings(latent[order], window[order], position[order], shortened(activation[order]))
        lengths = np.array([len(w.tokens) for w in windows])
        tokens = pa.ListArray.from_arrays(
            np.concatenate([[0], lengths.cumsum()]).astype(np.int32),
            np.concatenate([w.tokens for w in windows]).astype(np.int32),
        )
        texts = pa.table(
            {
                "window": np.array([w.id for w in windows], np.int32),
                "document": np.array([w.document for w in windows], np.int32),
                "start": np.array([w.start for w in windows], np.int32),
                "tokens": tokens,
            },
            schema=WINDOW_SCHEMA,
        )
        shard = Shard(
            windows=self._write(f"windows-{number:05d}.parquet", texts, WINDOWS_PER_GROUP, compression="zstd"),
            activations=self._write(
                f"activations-{number:05d}.parquet",
                pa.table(firings._asdict(), schema=ACTIVATION_SCHEMA),
                ACTIVATIONS_PER_GROUP,
                **FIRING_ENCODING,
            ),
            first_window=first,
            n_windows=len(windows),
            n_tokens=int(lengths.sum()),
            sinks=sinks,
            n_activations=len(latent),
        )
        self._save(self._manifest.model_copy(update={"shards": (*self._manifest.shards, shard)}))
        self._summary.add(firings)

    def finish(self) -> None:
        """Write what the shards say of each latent and mark the harvest complete."""
        if not self.complete:
            summary = self._summary.write(self.folder)
            self._save(self._manifest.model_copy(update={"summary": summary, "complete": True}))
        self._lock.close()

    def _save(self, manifest: Manifest) -> None:
        manifest.save(self.folder)
        self._manifest = manifest

    def _write(self, name: str, table: pa.Table, rows_per_group: int, **encoding: Any) -> File:
        with appearing(self.folder / name) as path:
            pq.write_table(table, path, row_group_size=rows_per_group, **encoding)
        return File.of(self.folder / name)


def shortened(activation: Float32s) -> Float32s:
    """`activation` rounded to 12 significant bits, which compress to about two bytes."""
    dropped = np.uint32(24 - SIGNIFICANT_BITS)
    bits = np.ascontiguousarray(activation, np.float32).view(np.uint32)
    half = np.uint32(1) << (dropped - np.uint32(1))
    return (((bits + half) >> dropped) << dropped).view(np.float32)


def _sorted(
    windows: Sequence[Window],
    first: int,
    latent: Int32s,
    window: Int32s,
    position: Int16s,
    activation: Float32s,
    n_latents: int,
) -> npt.NDArray[np.intp]:
    """The order by (latent, window, position), after a check that the firings lie in these windows, each once."""
    if [w.id for w in windows] != list(range(first, first + len(windows))) or not windows:
        raise ValueError(f"the windows of this shard must be numbered on from {first}")
    if not len(latent) == len(window) == len(position) == len(activation):
        raise ValueError("latent, window, position and activation differ in length")
    lengths = np.array([len(w.tokens) for w in windows])
    local = window.astype(np.int64) - first
    if len(latent) and not (
        latent.min() >= 0
        and latent.max() < n_latents
        and local.min() >= 0
        and local.max() < len(windows)
        and position.min() >= 0
        and (position < lengths[local]).all()
        and activation.min() > 0
        and np.isfinite(activation).all()
    ):
        raise ValueError("a firing lies outside the latents or windows of this shard, or is not positive and finite")
    key = (latent.astype(np.int64) * len(windows) + local) * int(lengths.max()) + position
    order = np.argsort(key, kind="stable")
    if (np.diff(key[order]) == 0).any():
        raise ValueError("a latent fires twice on one token")
    return order
