"""A harvest holds what was put in, stays small, and is read fast without being loaded."""

import json
import time
import tracemalloc

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.activations import Harvest, HarvestWriter, Window, layout, summary
from store.activations.write import shortened
from store.errors import UserError
from tests.store.harvests import CONTEXT, HEADER, SHARDS, TOKENS, F, contents, shard, small, write


@pytest.fixture(scope="module")
def firings():
    """Everything that goes into the small harvest: latent, window, position, shortened activation; sorted."""
    columns = [np.concatenate(column) for column in zip(*(small(number)[1:] for number in range(SHARDS)), strict=True)]
    order = np.lexsort((columns[2], columns[1], columns[0]))
    latent, window, position, activation = (column[order] for column in columns)
    return latent, window, position, shortened(activation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("activations") / "small"
    write(folder, (small(number) for number in range(SHARDS)), F)
    return folder


@pytest.fixture
def harvest(folder):
    return Harvest(folder)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The same firings, with samples.parquet, as a large harvest has it."""
    folder = tmp_path_factory.mktemp("activations") / "sampled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "SAMPLES_SHARE", 1.0)
        patch.setattr(summary, "SAMPLES_PER_GROUP", 500)
        write(folder, (small(number) for number in range(SHARDS)), F)
    return Harvest(folder)


# What goes in comes out


def test_header_and_sizes(harvest):
    assert harvest.header == HEADER
    assert (harvest.n_latents, harvest.n_tokens, harvest.n_windows) == (F, SHARDS * TOKENS, SHARDS * TOKENS // CONTEXT)
    assert harvest.verify() == []


def test_every_firing_comes_back(harvest, firings):
    latent, *others = firings
    for index in range(F):
        found = harvest.activations(index)
        for column, expected in zip(found, others, strict=True):
            np.testing.assert_array_equal(column, expected[latent == index])
            assert column.dtype == expected.dtype


def test_firings_of_some_windows(harvest, firings):
    latent, window, position, activation = firings
    wanted = [3, 47, 20, 21]
    inside = np.isin(window, wanted)
    found = harvest.activations(5, wanted)
    np.testing.assert_array_equal(found.activation, activation[inside & (latent == 5)])
    everything = harvest.firing_latents(wanted)
    order = np.lexsort((latent[inside], position[inside], window[inside]))
    for column, expected in zip(everything, firings, strict=True):
        np.testing.assert_array_equal(column, expected[inside][order])
    assert [len(column) for column in harvest.firing_latents([])] == [0] * 4
    assert len(harvest.activations(5, []).window) == 0


def test_windows_come_back_in_the_order_asked(harvest):
    put = {window.id: window for number in range(SHARDS) for window in small(number)[0]}
    for ids in ([47, 0, 16, 15, 47], np.array([1, 2]), []):
        found = harvest.windows(ids)
        assert [window.id for window in found] == list(ids)
        for window in found:
            assert (window.document, window.start) == (put[window.id].document, put[window.id].start)
            np.testing.assert_array_equal(window.tokens, put[window.id].tokens)
            assert window.tokens.dtype == np.int32


def test_windows_of_different_lengths(tmp_path):
    windows = [Window(i, i, 0, np.arange(n, dtype=np.int32)) for i, n in enumerate((2, 300, 1, 7))]
    nothing = np.empty(0, np.int32)
    writer = HarvestWriter(tmp_path / "h", HEADER, 3)
    writer.write_shard(windows, nothing, nothing, nothing.astype(np.int16), nothing.astype(np.float32))
    writer.finish()
    harvest = Harvest(tmp_path / "h")
    assert [list(window.tokens) for window in harvest.windows([3, 1, 2])] == [list(range(n)) for n in (7, 300, 1)]
    assert harvest.stats().count.tolist() == [0, 0, 0]
    assert len(harvest.peaks(0, "top").window) == len(harvest.activations(2).window) == 0


def test_random_windows_are_different_and_repeatable(harvest):
    ids = [window.id for window in harvest.random_windows(20, seed=1)]
    assert len(set(ids)) == 20
    assert ids == [window.id for window in harvest.random_windows(20, seed=1)]
    assert ids != [window.id for window in harvest.random_windows(20, seed=2)]
    assert sorted(window.id for window in harvest.random_windows(999, seed=1)) == list(range(harvest.n_windows))


def test_activations_keep_twelve_bits():
    activation = np.geomspace(1e-3, 1e5, 200_001, dtype=np.float32)
    kept = shortened(activation)
    error = np.abs(kept.astype(float) - activation) / activation
    assert error.max() <= 2.0**-12
    assert error.max() > 2.0**-13  # it does shorten
    assert (np.diff(kept) >= 0).all()


# Summaries


def test_stats_are_those_of_all_firings(harvest, sampled, firings):
    latent, _, _, activation = firings
    for stats in (harvest.stats(), sampled.stats()):
        np.testing.assert_array_equal(stats.count, np.bincount(latent, minlength=F))
        np.testing.assert_allclose(stats.density, stats.count / (SHARDS * (TOKENS - TOKENS // CONTEXT)))
        for index in range(F):
            mine = activation[latent == index]
            assert stats.max[index] == mine.max()
            assert stats.mean[index] == pytest.approx(mine.mean(), rel=1e-5)
            np.testing.assert_array_equal(stats.histogram[index], np.histogram(mine, stats.edges)[0])


def test_top_peaks_are_the_highest_windows(harvest, sampled, firings):
    latent, window, position, activation = firings
    assert (sampled.folder / layout.SAMPLES).exists()
    assert not (harvest.folder / layout.SAMPLES).exists()
    for index in range(F):
        mine = latent == index
        best = {}
        for w, p, a in zip(window[mine], position[mine], activation[mine], strict=True):
            if w not in best or a > best[w][1]:
                best[w] = (p, a)
        expected = sorted(((-a, w, p) for w, (p, a) in best.items()))[: layout.TOP]
        for source in (harvest, sampled):
            found = source.peaks(index, "top")
            assert list(zip(-found.activation, found.window, found.position, strict=True)) == expected


def test_top_is_limited_to_a_hundred_across_shards(tmp_path):
    """One latent that fires in every one of 384 windows: the highest are in all shards."""
    folder = tmp_path / "dense"
    shards = [shard(number, n_tokens=32_768, n_latents=2, per_token=1) for number in range(3)]
    write(folder, iter(shards), 2)
    activation = np.concatenate([s[4][s[1] == 1] for s in shards])
    window = np.concatenate([s[2][s[1] == 1] for s in shards])
    peaks = np.zeros(384, np.float32)
    np.maximum.at(peaks, window, shortened(activation))
    found = Harvest(folder).peaks(1, "top")
    assert len(found.window) == layout.TOP
    np.testing.assert_array_equal(found.activation, np.sort(peaks)[::-1][: layout.TOP])
    assert len(Harvest(folder).peaks(1, "sample").window) == layout.SAMPLE


def test_sample_is_of_the_firings_one_a_window_and_the_same_either_way(harvest, sampled, firings):
    stored = set(zip(*(column.tolist() for column in firings), strict=True))
    for index in range(F):
        one, other = harvest.peaks(index, "sample"), sampled.peaks(index, "sample")
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
        assert len(set(one.window.tolist())) == len(one.window) == len(set(firings[1][firings[0] == index].tolist()))
        assert {(index, *row) for row in zip(*(column.tolist() for column in one), strict=True)} <= stored
        assert (np.diff(one.activation) <= 0).all()


def test_sample_is_uniform(tmp_path):
    """Of 600 windows with one firing each, 200 are drawn per latent: no window and no strength is preferred."""
    n_latents, n_windows = 200, 600
    windows = [Window(i, i, 0, np.zeros(2, np.int32)) for i in range(n_windows)]
    latent = np.repeat(np.arange(n_latents, dtype=np.int32), n_windows)
    window = np.tile(np.arange(n_windows, dtype=np.int32), n_latents)
    writer = HarvestWriter(tmp_path / "h", HEADER, n_latents)
    activation = np.random.default_rng(0).uniform(1, 2, len(latent)).astype(np.float32)
    writer.write_shard(windows, latent, window, np.ones(len(latent), np.int16), activation)
    writer.finish()
    harvest = Harvest(tmp_path / "h")
    drawn = [harvest.peaks(index, "sample") for index in range(n_latents)]
    assert all(len(peaks.window) == layout.SAMPLE for peaks in drawn)
    times = np.bincount(np.concatenate([peaks.window for peaks in drawn]), minlength=n_windows)
    expected = n_latents * layout.SAMPLE / n_windows
    spread = np.sqrt(expected * (1 - layout.SAMPLE / n_windows))  # binomial
    assert np.abs(times - expected).max() < 5 * spread
    assert np.concatenate([peaks.activation for peaks in drawn]).mean() == pytest.approx(1.5, abs=0.01)


# On disk


def test_duckdb_reads_it_in_place(harvest, firings):
    glob = str(harvest.folder / "activations-*.parquet")
    count, total = duckdb.sql(f"SELECT count(*), sum(activation::DOUBLE) FROM '{glob}' WHERE latent = 7").fetchall()[0]
    mine = harvest.activations(7)
    assert count == len(mine.window) == (firings[0] == 7).sum()
    assert total == pytest.approx(mine.activation.astype(float).sum())
    joined = duckdb.sql(
        f"""SELECT tokens[position + 1] FROM '{glob}' JOIN '{harvest.folder / "windows-*.parquet"}' USING ("window")
        WHERE latent = 7 ORDER BY "window", position"""
    ).fetchall()
    texts = {window.id: window.tokens for window in harvest.windows(range(harvest.n_windows))}
    assert [token for (token,) in joined] == [texts[w][p] for w, p in zip(mine.window, mine.position, strict=True)]
    assert duckdb.sql(f"SELECT sum(count) FROM '{harvest.folder / layout.LATENTS}'").fetchall() == [(len(firings[0]),)]


def test_disk_and_time_on_realistic_data(tmp_path):
    """One shard of real size, and processor time; tests/benchmarks/activations.py does a million tokens."""
    write(tmp_path / "h", (shard(number) for number in range(1)))
    harvest = Harvest(tmp_path / "h")
    stored = int(harvest.stats().count.sum())
    assert stored > 2_000_000
    assert sum(path.stat().st_size for path in harvest.folder.iterdir()) <= 4 * stored

    def twenty_best(latent: int) -> float:
        started = time.thread_time()
        assert len(harvest.windows(harvest.peaks(latent, "top").window[:20])) == 20
        return time.thread_time() - started

    times = [twenty_best(latent) for latent in range(0, 4600, 100)]
    assert np.median(times) < 0.02


def test_memory_does_not_grow_with_the_tokens(tmp_path):
    def peak(shards: int) -> int:
        arrow = pa.default_memory_pool().bytes_allocated()
        tracemalloc.start()
        writer = HarvestWriter(tmp_path / str(shards), HEADER, 100)
        for number in range(shards):
            writer.write_shard(*shard(number, n_tokens=8192, n_latents=100, per_token=8))
        writer.finish()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert pa.default_memory_pool().bytes_allocated() - arrow < 1e6
        return most

    assert peak(24) < 1.1 * peak(6)


# Damage and bad input


def test_missing_cut_and_altered_files(tmp_path, folder):
    with pytest.raises(UserError, match=r"there is no harvest in .*; make one with `glossator harvest`"):
        Harvest(tmp_path / "nothing")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in contents(folder).items():
        (copy / name).write_bytes(content)
    shard_file = copy / "activations-00001.parquet"
    content = bytearray(shard_file.read_bytes())
    content[100] ^= 1
    shard_file.write_bytes(content)
    (problem,) = Harvest(copy).verify()
    assert problem.where == str(shard_file)
    shard_file.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"activations-00001.parquet is missing or cut short"):
        Harvest(copy)
    shard_file.unlink()
    with pytest.raises(UserError, match="missing or cut short"):
        Harvest(copy)
    (copy / layout.MANIFEST).write_text('{"format": 1}')
    for use in (lambda: Harvest(copy), lambda: HarvestWriter(copy, HEADER, F)):
        with pytest.raises(UserError, match="cannot be read"):
            use()


def test_a_latent_or_window_out_of_range_is_named(harvest):
    for use in (lambda: harvest.peaks(F, "top"), lambda: harvest.activations(-1)):
        with pytest.raises(UserError, match=f"this harvest has latents 0 to {F - 1}"):
            use()
    for ids in ([harvest.n_windows], [-1, 2]):
        with pytest.raises(UserError, match=f"windows 0 to {harvest.n_windows - 1}"):
            harvest.windows(ids)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, F, "outside"),
        (1, -1, "outside"),
        (2, 16, "outside"),
        (3, CONTEXT, "outside"),
        (4, 0.0, "not positive"),
        (4, np.inf, "not positive and finite"),
        (4, np.nan, "not positive"),
    ],
)
def test_firings_that_cannot_be_are_refused(tmp_path, column, value, message):
    arguments = list(small(0))
    arguments[column][5] = value
    writer = HarvestWriter(tmp_path / "h", HEADER, F)
    with pytest.raises(ValueError, match=message):
        writer.write_shard(*arguments)
    assert writer.shards_done == 0


def test_a_firing_given_twice_and_windows_out_of_turn_are_refused(tmp_path):
    windows, *columns = small(0)
    writer = HarvestWriter(tmp_path / "h", HEADER, F)
    with pytest.raises(ValueError, match="twice"):
        writer.write_shard(windows, *(np.append(column, column[:1]) for column in columns))
    with pytest.raises(ValueError, match="numbered on from 0"):
        writer.write_shard(small(1)[0], *columns)
    with pytest.raises(ValueError, match="differ in length"):
        writer.write_shard(windows, columns[0][1:], *columns[1:])


def test_the_files_say_how_they_are_sorted_and_packed(folder):
    file = pq.ParquetFile(folder / "activations-00000.parquet")
    assert file.schema_arrow.equals(layout.ACTIVATION_SCHEMA)
    assert {file.metadata.row_group(0).column(i).compression for i in range(4)} == {"ZSTD"}
    manifest = json.loads((folder / layout.MANIFEST).read_text())
    assert manifest["complete"] is True
    assert [entry["n_tokens"] for entry in manifest["shards"]] == [TOKENS] * SHARDS
