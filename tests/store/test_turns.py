"""One file, many processes: who is refused, who waits, and what a process that dies leaves behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from store import migrate
from store.db import Store
from store.errors import StoreBusy, UserError
from store.ledger import Ledger
from store.types import FACTS, Hypothesis
from tests.store.examples import every_noun

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "glossator.duckdb"


def run_python(code: str, *arguments: object) -> subprocess.Popen:
    """A process that runs `code` and is known to have printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout.readline()
    return process


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Append-only


@pytest.mark.parametrize("noun", FACTS)
def test_facts_cannot_be_changed(path, noun):
    ledger = Ledger(path)
    ledger.append(*every_noun())
    before = ledger.find(noun)
    for statement in (
        f"UPDATE {noun.table} SET id = 'x'",
        f"UPDATE {noun.table} SET id = 'x' WHERE false",
        f"DELETE FROM {noun.table}",
        f"DELETE FROM {noun.table} WHERE false",
        f"TRUNCATE {noun.table}",
    ):
        with pytest.raises(duckdb.Error, match=f"{noun.table} is append-only"), ledger.store.write() as connection:
            connection.execute(statement)
        with pytest.raises(duckdb.Error, match="append-only"), duckdb.connect(path) as connection:  # any other program
            connection.execute(statement)
    assert ledger.find(noun) == before != []


# Migrations


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A copy of the SQL files that a test may edit."""
    folder = tmp_path / "sql"
    for kind in ("migrations", "views"):
        (folder / kind).mkdir(parents=True)
        for file in (migrate.FOLDER / kind).glob("*.sql"):
            (folder / kind / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(migrate, "FOLDER", folder)
    return folder


def test_an_edited_migration_is_refused(path, scripts):
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    first = scripts / "migrations" / "0001_facts.sql"
    first.write_text(first.read_text() + "\n-- a harmless remark")
    for use in (lambda: Ledger(path).find(Hypothesis), lambda: Ledger(path).append(Hypothesis(about="x", claim="z"))):
        with pytest.raises(UserError, match=r"0001_facts.sql was edited after it was applied"):
            use()


def test_a_newer_schema_is_refused_and_left_alone(path, scripts):
    later = scripts / "migrations" / "9999_later.sql"
    later.write_text("CREATE TABLE later (x INTEGER);")
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    later.unlink()
    before = path.read_bytes()
    for use in (lambda: Ledger(path).find(Hypothesis), lambda: Ledger(path).append(Hypothesis(about="x", claim="z"))):
        with pytest.raises(UserError, match=r"written by a newer Glossator .*9999_later.sql.*; upgrade"):
            use()
    assert path.read_bytes() == before


def test_a_new_migration_and_an_edited_view_are_applied_once(path, scripts):
    fact = Hypothesis(about="x", claim="y")
    Ledger(path).append(fact)
    (scripts / "migrations" / "0999_more.sql").write_text("CREATE TABLE more (x INTEGER);")
    costs = scripts / "views" / "costs.sql"
    costs.write_text("CREATE OR REPLACE VIEW costs AS SELECT 42 AS answer;")
    ledger = Ledger(path)
    assert ledger.view("costs") == [{"answer": 42}]  # a reader brings an old store up to date
    assert ledger.sql("SELECT * FROM more") == (["x"], [])
    assert ledger.find(Hypothesis) == [fact]
    record = ledger.sql("SELECT file, sha256 FROM migrations")
    assert Ledger(path).sql("SELECT file, sha256 FROM migrations") == record
    assert [file for file, _ in record[1]].count("views/costs.sql") == 2


def test_a_failing_migration_leaves_nothing_behind(path, scripts):
    fact = Hypothesis(about="x", claim="y")
    Ledger(path).append(fact)
    bad = scripts / "migrations" / "0999_bad.sql"
    bad.write_text("CREATE TABLE half (x INTEGER); SELECT error('stop');")
    with pytest.raises(duckdb.Error, match="stop"):
        Ledger(path).append(Hypothesis(about="x", claim="z"))
    bad.unlink()
    assert Ledger(path).sql("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'")[1] == [(0,)]
    assert Ledger(path).find(Hypothesis) == [fact]


# Files that are not ours


@pytest.mark.parametrize("content", [b"", b"x", b"a longer text, but not a database\n" * 1000])
def test_a_file_that_is_not_duckdb_is_refused_and_nothing_is_written(path, content):
    path.write_bytes(content)
    for use in (lambda: Ledger(path).find(Hypothesis), lambda: Ledger(path).append(Hypothesis(about="x", claim="y"))):
        with pytest.raises(UserError, match=r"is not a DuckDB file; move it away"):
            use()
    assert listing(path.parent) == {path.name: content}


def test_another_program_s_database_is_refused_and_nothing_is_written(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x INTEGER)")
    before = listing(path.parent)
    for use in (lambda: Ledger(path).find(Hypothesis), lambda: Ledger(path).append(Hypothesis(about="x", claim="y"))):
        with pytest.raises(UserError, match="that Glossator did not make"):
            use()
    assert listing(path.parent) == before


def test_a_folder_in_the_place_of_the_store_is_refused(path):
    path.mkdir()
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger(path).append(Hypothesis(about="x", claim="y"))


def test_a_path_with_quotes_works(tmp_path):
    ledger = Ledger(tmp_path / "it's" / 'a "store".duckdb')
    fact = Hypothesis(about="x", claim="y")
    ledger.append(fact)
    assert ledger.find(Hypothesis) == [fact]


# Waiting

HOLD_LOCK = """
import sys, time
from pathlib import Path
from store.db import Store
store = Store(Path(sys.argv[1]))
with getattr(store, sys.argv[2])():
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""
HOLD_FILE = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("held", "wanted"), [("write", "read"), ("write", "write"), ("read", "write")])
def test_store_busy_names_the_process_that_holds_it(path, held, wanted):
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    holder = run_python(HOLD_LOCK, path, held, 60)
    try:
        started = time.monotonic()
        with pytest.raises(StoreBusy) as caught, getattr(Store(path, timeout_s=0.5), wanted)():
            pass
        assert 0.4 < time.monotonic() - started < 5
    finally:
        holder.kill()
        holder.wait()
    message = str(caught.value)
    assert re.search(
        rf"held for more than 0.5 s by process {holder.pid} \(.*python.*{re.escape(str(path))}", message, re.S
    )
    with getattr(Store(path, timeout_s=5), wanted)():
        pass  # the dead holder's lock is gone


def test_readers_share(path):
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    holder = run_python(HOLD_LOCK, path, "read", 60)
    try:
        assert len(Ledger(path, timeout_s=0.5).find(Hypothesis)) == 1
    finally:
        holder.kill()
        holder.wait()


def test_a_program_that_knows_no_turns_is_waited_for_and_named(path):
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    holder = run_python(HOLD_FILE, path, 60)
    try:
        for wanted in ("read", "write"):
            with (
                pytest.raises(StoreBusy, match=f"process {holder.pid} "),
                getattr(Store(path, timeout_s=0.3), wanted)(),
            ):
                pass
    finally:
        holder.kill()
        holder.wait()
    holder = run_python(HOLD_FILE, path, 0.5)
    Ledger(path, timeout_s=30).append(Hypothesis(about="x", claim="z"))
    assert holder.wait(10) == 0


def test_a_thread_of_this_process_is_named_as_such(path):
    Ledger(path).append(Hypothesis(about="x", claim="y"))
    named = pytest.raises(StoreBusy, match=rf"this process \(PID {os.getpid()}\)")
    with Store(path).write(), named, Store(path, timeout_s=0.2).read():
        pass


def test_threads_of_one_process_share_a_ledger(path):
    ledger = Ledger(path)
    ledger.append(Hypothesis(about="x", claim="y"))
    errors = []

    def use(number: int) -> None:
        try:
            for n in range(8):
                if number % 2:
                    ledger.append(Hypothesis(about="thread", claim=f"{number}/{n}"))
                else:
                    assert ledger.find(Hypothesis, about="x")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(ledger.find(Hypothesis, about="thread")) == 24


def test_an_exception_in_the_body_rolls_back_and_frees_the_store(path):
    ledger = Ledger(path, timeout_s=2)
    ledger.append(Hypothesis(about="x", claim="y"))

    def interrupted() -> None:
        with ledger.store.write() as connection:
            row = "('1', now()::TIMESTAMP, 'a', 'b')"
            connection.execute(f"INSERT INTO hypotheses (id, created_at, about, claim) VALUES {row}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(ledger.find(Hypothesis)) == 1
    ledger.append(Hypothesis(about="x", claim="z"))
    assert len(ledger.find(Hypothesis)) == 2


# Death and want

APPEND_FOR_EVER = """
import sys, itertools
from pathlib import Path
from store.ledger import Ledger
from store.types import Hypothesis
ledger = Ledger(Path(sys.argv[1]))
for n in itertools.count():
    ledger.append(*(Hypothesis(about=f"{sys.argv[2]}/{n}", claim=f"{row}") for row in range(50)))
    if n == int(sys.argv[3]):
        print("going", flush=True)
"""


def test_kill_9_loses_no_committed_row_and_tears_no_transaction(path):
    for attempt in range(3):
        process = run_python(APPEND_FOR_EVER, path, attempt, 3)
        time.sleep(0.05 + 0.037 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        groups = Ledger(path, timeout_s=5).sql(
            "SELECT about, count(*), count(DISTINCT id) FROM hypotheses GROUP BY about"
        )[1]
        assert all(rows == ids == 50 for _, rows, ids in groups)
        assert {f"{attempt}/{n}" for n in range(4)} <= {about for about, *_ in groups}


def test_kill_9_while_the_store_is_made_leaves_a_usable_place(tmp_path):
    for attempt in range(3):
        path = tmp_path / str(attempt) / "glossator.duckdb"
        process = subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, str(path), "0", "9"], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        while not path.with_name("glossator.duckdb.tmp").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.008 * attempt)
        process.kill()
        process.communicate()
        ledger = Ledger(path, timeout_s=5)
        ledger.append(Hypothesis(about="after", claim="the crash"))
        assert len(ledger.find(Hypothesis, about="after")) == 1


FILL = """
import os, resource, sys
from pathlib import Path
from store.errors import UserError
from store.ledger import Ledger
from store.types import Hypothesis
path = Path(sys.argv[1])
ledger = Ledger(path)
ledger.append(Hypothesis(about="kept", claim="y"))
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300_000, resource.RLIM_INFINITY))
try:
    for n in range(100):
        ledger.append(*(Hypothesis(about=f"{n}", claim=os.urandom(1000).hex()) for row in range(50)))
    print("never full")
except UserError as error:
    print(n, error)
"""


def test_a_full_disk_is_one_sentence_and_the_store_stays_sound(path):
    said = subprocess.run([sys.executable, "-c", FILL, str(path)], cwd=REPOSITORY, capture_output=True, text=True)
    sentence = re.fullmatch(r"(\d+) the disk that holds (.*) is full, .*; free some space.*\n", said.stdout)
    assert sentence, said
    assert sentence[2] == str(path)
    groups = dict(Ledger(path).sql("SELECT about, count(*) FROM hypotheses GROUP BY about")[1])
    assert groups == {"kept": 1} | {str(n): 50 for n in range(int(sentence[1]))}  # what was said to be lost is lost
    Ledger(path).append(Hypothesis(about="room", claim="again"))
