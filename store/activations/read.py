"""Reads a complete harvest in place, a few row groups at a time."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import ValidationError

from store.activations.layout import EDGES, LATENTS, MANIFEST, SAMPLES, Firings, LatentStats, Manifest, Peaks, Window
from store.activations.summary import samples_of
from store.activations.table import SortedTable, to_numpy
from store.disk import sha256_of
from store.errors import UserError
from store.types import Problem


class Harvest:
    """The harvest in `folder`. Raises UserError when there is none, or when it is unfinished or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = _load(folder)
        self.header = self._manifest.header
        self.n_latents = self._manifest.n_latents
        self.n_windows = self._manifest.n_windows
        self.n_tokens = sum(shard.n_tokens for shard in self._manifest.shards)
        self._first_windows = [shard.first_window for shard in self._manifest.shards]
        self._texts = [SortedTable(folder / shard.windows.name) for shard in self._manifest.shards]
        self._firings = [SortedTable(folder / shard.activations.name) for shard in self._manifest.shards]
        sampled = any(file.name == SAMPLES for file in self._manifest.summary)
        self._samples = SortedTable(folder / SAMPLES) if sampled else None

    def stats(self) -> LatentStats:
        """Counts, densities, maxima, means and histograms of all latents."""
        return self._stats

    @cached_property
    def _stats(self) -> LatentStats:
        table = pq.read_table(self.folder / LATENTS)
        count = table["count"].to_numpy()
        tokens = self.n_tokens - sum(shard.sinks for shard in self._manifest.shards)
        return LatentStats(
            count=count,
            density=count / max(tokens, 1),
            max=table["max"].to_numpy(),
            mean=table["sum"].to_numpy() / np.maximum(count, 1),
            histogram=table["histogram"].combine_chunks().flatten().to_numpy().reshape(self.n_latents, -1),
            edges=EDGES,
        )

    def peaks(self, latent: int, kind: Literal["top", "sample"]) -> Peaks:
        """At most one firing per window, by descending activation (then by window).

        'top': the 100 windows with the highest peaks, each at its peak. 'sample': 200 firings drawn uniformly.
        """
        self._check(latent)
        if self._samples is not None:
            rows = self._samples.between(latent, latent)
        else:
            rows = to_numpy(samples_of(latent, self.activations(latent)))
        chosen = np.flatnonzero(rows["kind"] == kind)
        chosen = chosen[np.argsort(-rows["activation"][chosen], kind="stable")]
        return Peaks(rows["window"][chosen], rows["position"][chosen], rows["activation"][chosen])

    def activations(self, latent: int, windows: Sequence[int] | None = None) -> Peaks:
        """Every stored firing of a latent, or those in the given windows, by window and position."""
        self._check(latent)
        shards = range(len(self._firings)) if windows is None else sorted(set(self._shards_of(windows)))
        found = [self._firings[shard].between(latent, latent) for shard in shards]
        window, position, activation = (
            np.concatenate([np.empty(0, dtype), *(rows[name] for rows in found)])
            for name, dtype in (("window", np.int32), ("position", np.int16), ("activation", np.float32))
        )
        chosen = slice(None) if windows is None else np.isin(window, np.asarray(windows))
        return Peaks(window[chosen], position[chosen], activation[chosen])

    def windows(self, ids: Sequence[int]) -> list[Window]:
        """The windows with these ids, in this order. Raises UserError for an id that does not exist."""
        found: dict[int, Window] = {}
        places = self._shards_of(ids)
        for shard in sorted(set(places)):
            table = self._texts[shard]
            wanted = {int(id) for id, place in zip(ids, places, strict=True) if place == shard}
            groups = sorted({group for id in wanted for group in table.groups(id, id)})
            rows = table.read(groups)
            texts = rows["tokens"].combine_chunks()
            tokens, offsets = texts.flatten().to_numpy(), texts.offsets.to_numpy() - texts.offsets[0].as_py()
            columns = (rows[name].to_numpy().tolist() for name in ("window", "document", "start"))
            for row, (id, document, start) in enumerate(zip(*columns, strict=True)):
                if id in wanted:
                    found[id] = Window(id, document, start, tokens[offsets[row] : offsets[row + 1]])
        return [found[int(id)] for id in ids]

    def random_windows(self, n: int, seed: int) -> list[Window]:
        """`n` different windows (all, if there are fewer), drawn uniformly."""
        chosen = np.random.default_rng(seed).choice(self.n_windows, min(n, self.n_windows), replace=False)
        return self.windows(chosen.tolist())

    def firing_latents(self, windows: Sequence[int]) -> Firings:
        """Every firing of every latent in the given windows, by window, position and latent. Reads whole shards."""
        pieces = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.float32))]
        for shard in sorted(set(self._shards_of(windows))):
            for rows in self._firings[shard].pieces():
                chosen = np.isin(rows["window"], np.asarray(windows))
                pieces.append(Firings(**{name: values[chosen] for name, values in rows.items()}))
        latent, window, position, activation = (np.concatenate(column) for column in zip(*pieces, strict=True))
        order = np.lexsort((latent, position, window))
        return Firings(latent[order], window[order], position[order], activation[order])

    def verify(self) -> list[Problem]:
        """Every file whose content is not the one that was written. An empty list means that all are sound."""
        return [
            Problem(where=str(self.folder / file.name), what="was altered: its SHA-256 is not the manifest's")
            for file in self._manifest.files()
            if sha256_of(self.folder / file.name) != file.sha256
        ]

    def _check(self, latent: int) -> None:
        if not 0 <= latent < self.n_latents:
            raise UserError(f"there is no latent {latent}; this harvest has latents 0 to {self.n_latents - 1}")

    def _shards_of(self, windows: Sequence[int]) -> list[int]:
        ids = np.asarray(windows, np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.n_windows):
            raise UserError(f"a window is out of range; this harvest has windows 0 to {self.n_windows - 1}")
        return [int(shard) for shard in np.searchsorted(self._first_windows, ids, side="right") - 1]


def _load(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no harvest in {folder}; make one with `glossator harvest`") from None
    except ValidationError:
        raise UserError(f"{folder / MANIFEST} cannot be read; delete the folder and harvest again") from None
    if not manifest.complete:
        raise UserError(
            f"the harvest in {folder} is unfinished ({len(manifest.shards)} shards); "
            "run the same `glossator harvest` again and it goes on"
        )
    for file in manifest.files():
        path = folder / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            raise UserError(f"{path} is missing or cut short; delete {folder} and harvest again")
    return manifest
