"""The one place that opens the DuckDB file: wait for a turn, open, use, close.

DuckDB lets one process hold a file and shuts out all others, so nobody here keeps it open: an instance of DuckDB
without a file attaches it for one turn. Turns are given by a fair lock beside the file; a process from outside that
holds the file (say DuckDB's own shell) is waited for as well.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

from store.disk import DISK_FULL, appearing, full_disk_explained, make_folder
from store.errors import StoreBusy, UserError
from store.lock import POLL_S, FairLock, LockTimeout
from store.migrate import load_scripts, migrate, pending

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
HELD = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


class Store:
    """The ledger's DuckDB file, shared politely with other processes and threads.

    `timeout_s` is how long to wait for a turn, in seconds, before StoreBusy names the process that holds the file.
    """

    def __init__(self, path: Path, timeout_s: float = 30) -> None:
        self.path = path.absolute()
        self.timeout_s = timeout_s
        self._scripts = load_scripts()
        self._lock = FairLock(self.path)
        self._idle: list[duckdb.DuckDBPyConnection] = []

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction, committed when the body ends, rolled back when it raises. Makes and migrates the store."""
        committed = False
        make_folder(self.path.parent)
        with full_disk_explained(self.path):
            try:
                with self._turn(exclusive=True) as connection:
                    migrate(connection, self.path, self._scripts)
                    connection.begin()
                    yield connection
                    connection.commit()
                    committed = True
            except duckdb.Error as error:
                # DuckDB moves its log into the file when it lets go of it. If there is no room for that, the log
                # keeps what was committed.
                if not (committed and DISK_FULL.search(str(error))):
                    raise

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection. A store that does not exist yet reads as an empty one, and nothing is written."""
        with ExitStack() as stack:
            if not self.path.exists():
                connection = stack.enter_context(self._engine())
                _attach(connection, ":memory:", read_only=False)
                migrate(connection, self.path, self._scripts)
                connection.execute("BEGIN TRANSACTION READ ONLY")
                stack.callback(_detach, connection)
                stack.callback(connection.rollback)
            else:
                connection = stack.enter_context(self._turn(exclusive=False))
                if pending(connection, self.path, self._scripts):
                    stack.close()
                    with self.write():
                        pass
                    connection = stack.enter_context(self._turn(exclusive=False))
            yield connection

    @contextmanager
    def _turn(self, exclusive: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        deadline = time.monotonic() + self.timeout_s
        with self._engine() as engine:
            if self.path.exists() and not self._lock.exists:
                # A file nobody has used yet: look at it first, so that nothing is written beside one that is not ours.
                with self._open(engine, True, deadline) as connection:
                    pending(connection, self.path, self._scripts)
            try:
                with self._lock.hold(exclusive, deadline):
                    if exclusive and not self.path.exists():
                        with appearing(self.path) as unfinished:
                            _attach(engine, unfinished, read_only=False)
                            migrate(engine, self.path, self._scripts)
                            _detach(engine)
                    with self._open(engine, not exclusive, deadline) as connection:
                        yield connection
            except LockTimeout:
                raise self._busy(engine) from None

    @contextmanager
    def _engine(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An instance of DuckDB without a file: starting one takes longer than all the rest, so they are kept.

        One that saw an exception is closed, which rolls back what it had begun.
        """
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = duckdb.connect(":memory:", config=CONFIG)
        try:
            yield engine
        except BaseException:
            engine.close()
            raise
        self._idle.append(engine)

    @contextmanager
    def _open(
        self, engine: duckdb.DuckDBPyConnection, read_only: bool, deadline: float
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        while not self._let_in(engine, read_only):
            if time.monotonic() >= deadline:
                raise self._busy(engine)
            time.sleep(POLL_S)
        yield engine
        _detach(engine)

    def _let_in(self, engine: duckdb.DuckDBPyConnection, read_only: bool) -> bool:
        """Attach the file; False while a program that knows no turns holds it."""
        try:
            _attach(engine, self.path, read_only)
        except duckdb.IOException as error:
            reason = str(error).splitlines()[0]
            if HELD.search(reason):
                return False
            if DISK_FULL.search(reason):
                raise
            if "not a valid DuckDB database" in reason:
                raise UserError(f"{self.path} is not a DuckDB file; move it away or name another workspace") from None
            raise UserError(
                f"the store {self.path} cannot be opened ({reason}); repair it or name another workspace"
            ) from error
        return True

    def _busy(self, engine: duckdb.DuckDBPyConnection) -> StoreBusy:
        """Ask DuckDB, which knows who holds the file."""
        holder = "another process"
        try:
            if self.path.exists():
                _attach(engine, self.path, read_only=False)
                _detach(engine)
        except duckdb.IOException as error:
            if held := HELD.search(str(error)):
                holder = f"process {held['pid']} ({_command(held['pid']) or held['program']})"
        except duckdb.Error:
            holder = f"this process (PID {os.getpid()})"
        return StoreBusy(
            f"the store {self.path} was held for more than {self.timeout_s:g} s by {holder}; "
            "wait for it to finish, or stop it, and try again"
        )


def _attach(engine: duckdb.DuckDBPyConnection, path: Path | str, read_only: bool) -> None:
    quoted = str(path).replace("'", "''")
    engine.execute(f"ATTACH '{quoted}' AS ledger" + (" (READ_ONLY)" if read_only else ""))
    engine.execute("USE ledger")


def _detach(engine: duckdb.DuckDBPyConnection) -> None:
    engine.execute("USE memory")
    engine.execute("DETACH ledger")


def _command(pid: str) -> str:
    """The command line of a process, or "" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
