"""Group commit: many coroutines hand in facts, one thread commits what has gathered in one transaction.

Opening the store takes tens of milliseconds and shuts others out, so transactions start at least INTERVAL_S apart.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from store.types import Fact

INTERVAL_S = 0.25


class GroupCommit:
    """Commits through `append`, from a thread that starts with the first facts and ends with `close`."""

    def __init__(self, append: Callable[[list[Fact]], None]) -> None:
        self._append = append
        self._gathered: list[tuple[Sequence[Fact], Future[None]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    async def submit(self, facts: Sequence[Fact]) -> None:
        """Return when `facts` are committed; raise what `append` raised. Cancelling does not take the facts back."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        with self._changed:
            self._gathered.append((facts, done))
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
                self._thread.start()
            self._changed.notify()
        await asyncio.wrap_future(done)

    def close(self) -> None:
        """Commit what has gathered and end the thread."""
        with self._changed:
            thread, self._closing = self._thread, True
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._gathered or self._closing)
                group, self._gathered = self._gathered, []
                if not group:
                    self._thread = None
                    return
            started = time.monotonic()
            self._commit(group)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=INTERVAL_S - (time.monotonic() - started))

    def _commit(self, group: list[tuple[Sequence[Fact], Future[None]]]) -> None:
        try:
            self._append([fact for facts, _ in group for fact in facts])
        except BaseException as error:
            for _, done in group:
                done.set_exception(error)
        else:
            for _, done in group:
                done.set_result(None)
