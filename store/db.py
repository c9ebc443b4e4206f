"""The one place that opens the DuckDB file: wait for a turn, open, use, close.

DuckDB lets one process hold a file and shuts out all others, so nobody here keeps it open. Turns are given by a
fair lock beside the file; a process from outside that holds the file (say DuckDB's own shell) is waited for as well.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from store.errors import StoreBusy, UserError
from store.lock import POLL_S, FairLock
from store.migrations import migrate, pending

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
HELD_BY = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large", re.IGNORECASE)


class Store:
    """The ledger's DuckDB file, shared politely with other processes and threads.

    `timeout_s` is how long to wait for a turn, in seconds, before StoreBusy names the process that holds the file.
    """

    def __init__(self, path: Path, timeout_s: float = 30) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._lock = FairLock(path)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction, committed when the body ends, rolled back when it raises. Makes and migrates the store."""
        self._inspect_unlocked()
        with _no_room(self.path), self._turn(exclusive=True, create=True) as connection:
            migrate(connection)
            connection.begin()
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection. A store that does not exist yet reads as an empty one, and nothing is written."""
        if not self.path.exists():
            with duckdb.connect(":memory:", config=CONFIG) as connection:
                migrate(connection)
                connection.execute("BEGIN TRANSACTION READ ONLY")
                yield connection
            return
        self._inspect_unlocked()
        if self._outdated():
            with self.write():
                pass
        with self._turn(exclusive=False) as connection:
            yield connection

    def _outdated(self) -> bool:
        with self._turn(exclusive=False) as connection:
            return bool(pending(connection))

    def _inspect_unlocked(self) -> None:
        """Look at a file that nobody has used yet, so that nothing is written beside one that is not ours."""
        if self.path.exists() and not self._lock.exists:
            with self._open(read_only=True, deadline=time.monotonic() + self.timeout_s) as connection:
                pending(connection)

    @contextmanager
    def _turn(self, exclusive: bool, create: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        deadline = time.monotonic() + self.timeout_s
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            turn = self._lock.hold(exclusive, deadline)
            turn.__enter__()
        except TimeoutError:
            raise self._busy() from None
