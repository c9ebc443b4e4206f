"""A lock between processes, beside the file it guards: readers share it, a writer has it alone, all get their turn.

Everybody passes a gate and stands in it until the room behind it opens. A writer fills the gate: while it waits for
the readers in the room to leave, it holds back those that come after it, so it cannot starve. Readers share the gate:
those that gather while a writer is in the room hold back the next writer, and all go in before it. So a reader waits
for one writer at most. The operating system drops the locks of a process that dies; nothing has to be cleaned up.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from store.errors import UserError

POLL_S = 0.003


class LockTimeout(Exception):
    """The lock did not come free in time."""


class FairLock:
    """The gate and the room of one guarded file: `<file>.gate` and `<file>.lock`."""

    def __init__(self, guarded: Path) -> None:
        self._gate = guarded.with_name(guarded.name + ".gate")
        self._room = guarded.with_name(guarded.name + ".lock")

    @property
    def exists(self) -> bool:
        """Whether anybody ever took the lock."""
        return self._room.exists()

    @contextmanager
    def hold(self, exclusive: bool, deadline: float) -> Iterator[None]:
        """Hold the lock for the body. Raises LockTimeout when it is not free by `deadline` (`time.monotonic`)."""
        with self._gate.open("ab") as gate, self._room.open("ab") as room:
            mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            _wait(gate, mode, deadline)
            _wait(room, mode, deadline)
            fcntl.flock(gate, fcntl.LOCK_UN)
            yield


@contextmanager
def only_one(lock: Path, refusal: str) -> Iterator[None]:
    """One process at a time, and nobody waits: UserError with `refusal` while another has the file locked."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(refusal) from None
        yield


def _wait(file: IO[bytes], operation: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockTimeout from None
            time.sleep(POLL_S)
