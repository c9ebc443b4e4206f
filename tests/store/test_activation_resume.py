"""A harvest that is stopped anywhere goes on and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.activations import Harvest, HarvestWriter
from store.errors import UserError
from tests.store.harvests import HEADER, SHARDS, F, contents, small, write

REPOSITORY = Path(__file__).parents[2]
HARVEST = """
import sys
from pathlib import Path
from tests.store.harvests import shard, write
write(Path(sys.argv[1]), (shard(n, 4096, 40, 6) for n in range(12)), 40)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("activations") / "small"
    write(folder, (small(number) for number in range(SHARDS)), F)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("activations") / "uninterrupted"
    write(folder, (small(number) for number in range(12)), F)
    return contents(folder)


@pytest.mark.parametrize("kills", [1, 4])
def test_kill_9_then_again_gives_the_same_bytes(tmp_path, uninterrupted, kills):
    folder = tmp_path / "h"
    killed = 0
    for attempt in range(kills):
        process = subprocess.Popen([sys.executable, "-c", HARVEST, str(folder)], cwd=REPOSITORY)
        wanted = 2 + 3 * attempt
        while process.poll() is None and len(list(folder.glob("activations-*"))) < wanted:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == kills
    with pytest.raises(UserError, match="unfinished"):
        Harvest(folder)
    writer = HarvestWriter(folder, HEADER, F)
    assert 0 < writer.shards_done < 12
    write_rest(writer)
    assert contents(folder) == uninterrupted
    assert Harvest(folder).verify() == []


def write_rest(writer: HarvestWriter) -> None:
    for number in range(writer.shards_done, 12):
        arguments = small(number)
        writer.write_shard(*arguments, sinks=len(arguments[0]))
    writer.finish()


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(0, 10, 3))
def test_stopped_at_any_write_it_goes_on(tmp_path, uninterrupted, monkeypatch, moment, call):
    """The process stops at the n-th call to fsync or rename; what is on disk then is what the next one finds."""
    calls = 0
    owner = os if moment == "fsync" else Path
    genuine = getattr(owner, moment)

    def stops(*arguments):
        nonlocal calls
        calls += 1
        if calls > call:
            raise SystemExit("stopped")
        return genuine(*arguments)

    folder = tmp_path / "h"
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, stops)
        with pytest.raises(SystemExit):
            write_rest(HarvestWriter(folder, HEADER, F))
    write_rest(HarvestWriter(folder, HEADER, F))
    assert contents(folder) == uninterrupted


def test_what_a_killed_run_left_is_cleared(tmp_path, uninterrupted):
    folder = tmp_path / "h"
    writer = HarvestWriter(folder, HEADER, F)
    writer.write_shard(*small(0), sinks=16)
    (folder / "activations-00001.parquet").write_bytes(b"half")
    (folder / "windows-00001.parquet.tmp").write_bytes(b"half")
    del writer
    write_rest(HarvestWriter(folder, HEADER, F))
    assert contents(folder) == uninterrupted


def test_finishing_again_changes_nothing(folder):
    before = contents(folder)
    writer = HarvestWriter(folder, HEADER, F)
    assert writer.complete
    writer.finish()
    assert contents(folder) == before


def test_another_header_is_refused_and_named(folder):
    before = contents(folder)
    with pytest.raises(UserError, match=r"harvest of something else \(other seed\)"):
        HarvestWriter(folder, {**HEADER, "seed": 1}, F)
    with pytest.raises(UserError, match=r"other latents"):
        HarvestWriter(folder, HEADER, F + 1)
    assert contents(folder) == before


def test_two_writers_at_once_are_refused(tmp_path):
    first = HarvestWriter(tmp_path / "h", HEADER, F)
    with pytest.raises(UserError, match="another process is harvesting"):
        HarvestWriter(tmp_path / "h", HEADER, F)
    first.write_shard(*small(0))
    first.finish()
    assert HarvestWriter(tmp_path / "h", HEADER, F).complete
