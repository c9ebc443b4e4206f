"""Replies already paid for, by the hash of their request: one SQLite file, shared by all runs and processes."""

import sqlite3
from pathlib import Path

from store.disk import make_folder
from store.errors import UserError
from store.types import LLMCall

BUSY_S = 30.0


class ReplyCache:
    """`put` is durable against a killed process the moment it returns (WAL, one transaction each)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            make_folder(path.parent)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, call TEXT NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    def get(self, request: str) -> LLMCall | None:
        """The call recorded for this request hash, if there is one."""
        try:
            row = self._db.execute("SELECT call FROM replies WHERE request = ?", (request,)).fetchone()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return LLMCall.model_validate_json(row[0]) if row else None

    def put(self, call: LLMCall) -> None:
        """Keeps `call`; the first reply to a request stays."""
        try:
            self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (call.request, call.model_dump_json()))
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def forget(self, request: str) -> None:
        """Drops the reply to this request, so that it will be sent again."""
        try:
            self._db.execute("DELETE FROM replies WHERE request = ?", (request,))
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        self._db.close()

    def _broken(self, error: Exception) -> UserError:
        return UserError(f"The reply cache {self.path} cannot be used ({error}); free some disk or move the file away.")
