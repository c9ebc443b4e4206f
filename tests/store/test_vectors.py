"""Vectors that were read are found again as they were, or not at all."""

import time
from pathlib import Path

import duckdb
import numpy as np
import pytest

from store.activations import Vectors


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    kept = Vectors(tmp_path)
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    values[3] = np.nan
    saved = kept.save("a", values)
    loaded = kept.load("a")
    assert loaded is not None
    assert np.array_equal(saved, loaded, equal_nan=True)
    assert np.nanmax(np.abs(saved / values - 1)) < 1e-3
    assert np.isnan(saved[3]).all()
    assert kept.load("b") is None


def test_values_beyond_fp16_are_scaled(tmp_path: Path) -> None:
    values = np.array([[3e5, -1e6], [2.0, 8e5]], np.float32)
    saved = Vectors(tmp_path).save("a", values)
    assert saved == pytest.approx(values, rel=1e-3)


def test_duckdb_reads_the_file_in_place(tmp_path: Path) -> None:
    Vectors(tmp_path).save("a", np.array([[1.0, 2.0], [np.nan, np.nan]], np.float32))
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT values FROM read_parquet(?)", [str(tmp_path / "a.parquet")]).fetchall()
    assert rows == [([1.0, 2.0],), (None,)]


def test_a_damaged_file_is_not_believed(tmp_path: Path) -> None:
    kept = Vectors(tmp_path)
    kept.save("a", np.ones((3, 2), np.float32))
    other = Vectors(tmp_path / "other")
    other.save("a", np.zeros((3, 2), np.float32))
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    assert kept.load("a") is None
    assert np.array_equal(kept.save("a", np.ones((3, 2), np.float32)), np.ones((3, 2)))
    assert kept.load("a") is not None


def test_the_file_used_longest_ago_goes_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = 200
    kept = Vectors(tmp_path, most_bytes=5 * size * size)  # two files and a half
    for key in ("a", "b"):
        kept.save(key, rng.normal(size=(size, size)).astype(np.float32))
        time.sleep(0.02)
    assert kept.load("a") is not None  # used again
    time.sleep(0.02)
    kept.save("c", rng.normal(size=(size, size)).astype(np.float32))
    assert (kept.load("a") is not None, kept.load("b"), kept.load("c") is not None) == (True, None, True)
