"""The ledger: facts go in and never change, and come out as the nouns they were."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from store.db import Store
from store.errors import UserError
from store.group_commit import GroupCommit
from store.migrate import view_names
from store.rows import derived, fetch_rows, from_row, to_table
from store.types import FACTS, Fact

F = TypeVar("F", bound=Fact)
QUESTIONS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)  # SHOW and DESCRIBE are SELECTs


class Ledger:
    """Facts in one DuckDB file. Every method opens, uses and closes it; see `Store` for `timeout_s` (seconds).

    All methods raise StoreBusy when the store stays held by others, and UserError when it cannot be used.
    """

    def __init__(self, path: Path, timeout_s: float = 30) -> None:
        self.store = Store(path, timeout_s)
        self._group = GroupCommit(lambda facts: self.append(*facts))

    def append(self, *facts: Fact) -> None:
        """Commit `facts` in one transaction. A fact whose id is there already is skipped."""
        if not facts:
            return
        groups: defaultdict[type[Fact], dict[str, Fact]] = defaultdict(dict)
        for fact in facts:
            groups[type(fact)][fact.id] = fact
        tables = {noun: to_table(noun, list(group.values())) for noun, group in groups.items()}
        with self.store.write() as connection:
            for noun, table in tables.items():
                connection.register("fresh", table)
                times = [fact.created_at for fact in groups[noun].values()]
                # Equal ids mean equal times, so only rows of that stretch of time need a look.
                connection.execute(
                    f"INSERT INTO {noun.table} BY NAME SELECT * FROM fresh WHERE NOT EXISTS "
                    f"(SELECT 1 FROM {noun.table} kept WHERE kept.created_at BETWEEN ? AND ? AND kept.id = fresh.id)",
                    [min(times), max(times)],
                )
                connection.unregister("fresh")

    async def record(self, *facts: Fact) -> None:
        """Commit `facts` together with those of other coroutines, a few transactions a second; returns when done."""
        for fact in facts:  # one that cannot be hashed fails here, alone, not with its group
            _ = [getattr(fact, column) for column in derived(type(fact))]
        await self._group.submit(facts)

    def close(self) -> None:
        """Wait until everything recorded is committed."""
        self._group.close()

    def get(self, noun: type[F], id: str) -> F | None:
        """The fact of that type and full id, or None."""
        found = self.find(noun, id=id)
        return found[0] if found else None

    def find(self, noun: type[F], **equals: Any) -> list[F]:
        """The facts whose columns equal `equals` (None matches None), oldest first."""
        unknown = set(equals) - set(noun.model_fields) - set(derived(noun))
        if unknown:
            raise ValueError(f"{noun.__name__} has no column {sorted(unknown)}")
        rows = self._select(noun.table, equals, "created_at, id")
        return [from_row(noun, row) for row in rows]

    def resolve(self, id_prefix: str) -> Fact:
        """The one fact whose id starts with `id_prefix`. Raises UserError when there is none or more than one."""
        if not re.fullmatch(r"[0-9a-f]{4,}", id_prefix):
            raise UserError(
                f"{id_prefix!r} is not an id; write at least its first 4 hex digits, in lower case, as "
                "glossator evidence lists them."
            )
        every = " UNION ALL ".join(f"SELECT '{noun.table}' AS place, id FROM {noun.table}" for noun in FACTS)
        with self.store.read() as connection:
            found = connection.execute(
                f"SELECT place, id FROM ({every}) WHERE starts_with(id, ?) ORDER BY id LIMIT 6", [id_prefix]
            ).fetchall()
        if not found:
            raise UserError(f"no row of the ledger has an id starting with {id_prefix}; `glossator sql` lists ids")
        if len(found) > 1:
            names = ", ".join(f"{id} ({place})" for place, id in found)
            raise UserError(f"{id_prefix} is the start of several ids: {names}; write more digits")
        place, id = found[0]
        noun = next(noun for noun in FACTS if noun.table == place)
        fact = self.get(noun, id)
        assert fact is not None, "rows never go away"
        return fact

    def experiment_keys(self, tool: str | None = None) -> dict[str, str]:
        """Key to id (the latest) of every experiment that succeeded, of one tool or of all."""
        with self.store.read() as connection:
            return dict(
                connection.execute(
                    "SELECT key, id FROM experiments WHERE error IS NULL AND tool = coalesce(?, tool) "
                    "ORDER BY created_at",
                    [tool],
                ).fetchall()
            )

    def view(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        """The rows of a view whose columns equal `filters`, as dictionaries, in the view's order."""
        if name not in view_names():
            raise UserError(f"there is no view {name!r}; the views are {', '.join(view_names())}")
        return self._select(name, filters)

    def sql(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one query. Raises UserError when DuckDB refuses it or it is not one SELECT."""
        if not query.strip(" \t\n;"):
            raise UserError("the query is empty; give one statement, such as: select * from scoreboard")
        try:
            with self.store.read() as connection:
                statements = connection.extract_statements(query)
                if len(statements) != 1 or statements[0].type not in QUESTIONS:
                    raise UserError(
                        "the store is only asked here: give one SELECT, and redirect what `glossator sql --format csv` "
                        "prints to keep it"
                    )
                cursor = connection.execute(statements[0])
                return [column[0] for column in cursor.description or ()], cursor.fetchall()
        except duckdb.Error as error:
            raise UserError(f"DuckDB refused the query: {' '.join(str(error).split())}") from None

    def _select(self, source: str, equals: dict[str, Any], order: str = "") -> list[dict[str, Any]]:
        conditions = " AND ".join(f'"{column}" IS NOT DISTINCT FROM ?' for column in equals)
        query = f"SELECT * FROM {source}" + (f" WHERE {conditions}" if equals else "")
        with self.store.read() as connection:
            cursor = connection.execute(query + (f" ORDER BY {order}" if order else ""), list(equals.values()))
            return fetch_rows(cursor)
