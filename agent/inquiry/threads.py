"""Conversations on disk: langgraph's checkpoints in a SQLite file beside the store."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from store.disk import make_folder
from store.errors import UserError
from store.ids import content_hash
from store.lock import only_one

T = TypeVar("T")

FILE = "threads.sqlite"
BUSY_S = 30.0


class Saver(AsyncSqliteSaver):
    """Whoever stops a run stops it between two writes and not inside one: an open one would keep the file locked.

    What a stopped step had written so far is not kept: without the choice of the next step, which it had not come to,
    langgraph would take the thread to be at its end.
    """

    async def aput(self, *given: Any, **more: Any) -> RunnableConfig:
        return await _whole(super().aput(*given, **more))

    async def aput_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], *more: Any) -> None:
        if not any(isinstance(value, asyncio.CancelledError) for _, value in writes):
            await _whole(super().aput_writes(config, writes, *more))


async def _whole(write: Coroutine[Any, Any, T]) -> T:
    """What `write` gives; when cancelled meanwhile, however often, it is finished first."""
    task, cancelled = asyncio.create_task(write), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


@asynccontextmanager
async def open_threads(workspace: Path, thread: str) -> AsyncIterator[AsyncSqliteSaver]:
    """The checkpoints of a workspace, for one run on `thread`. UserError when the file cannot be used, or while another
    run has the thread."""
    path, locks = workspace / FILE, workspace / "locks"
    make_folder(locks)
    lock = locks / f"thread-{content_hash([thread])[:16]}.lock"
    with only_one(lock, f"The thread {thread} is at work elsewhere: wait for it, or begin a new thread."):
        try:
            connection = await aiosqlite.connect(path, timeout=BUSY_S)
        except (sqlite3.Error, OSError) as error:
            raise _broken(path, error) from error
        try:
            saver = Saver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            try:
                await saver.setup()
            except sqlite3.Error as error:
                raise _broken(path, error) from error
            yield saver
        finally:
            await _whole(connection.close())


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"The threads in {path} cannot be read ({error}): free some disk, or move the file away.")
