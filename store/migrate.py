"""Brings a store to this program's schema: numbered migrations run once, views whenever their text changed.

Table `migrations` records the file, hash and time of everything applied. A migration whose text was edited after
it was applied, and a store that a newer program has migrated, are refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import duckdb

from store.errors import UserError

FOLDER = Path(__file__).parent
TABLES = "duckdb_tables() WHERE database_name = current_database()"
RECORD = "CREATE TABLE migrations (file VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"


@dataclass(frozen=True)
class Script:
    """One SQL file: `migrations/NNNN_name.sql` or `views/name.sql`."""

    file: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_scripts() -> list[Script]:
    """This program's schema: the migrations in order, then the views."""
    return [
        Script(f"{kind}/{path.name}", path.read_text("utf-8"))
        for kind in ("migrations", "views")
        for path in sorted((FOLDER / kind).glob("*.sql"))
    ]


def view_names() -> list[str]:
    """The names of the views, one a file."""
    return sorted(path.stem for path in (FOLDER / "views").glob("*.sql"))


def pending(connection: duckdb.DuckDBPyConnection, path: Path, scripts: list[Script]) -> list[Script]:
    """Those of `scripts` that the store at `path` lacks. Raises UserError when this program may not touch it."""
    try:  # in the order of application: of a view, the last text counts
        applied = dict(connection.execute("SELECT file, sha256 FROM migrations ORDER BY rowid").fetchall())
    except duckdb.CatalogException:
        if connection.execute(f"SELECT 1 FROM {TABLES}").fetchone():
            raise UserError(
                f"{path} is a DuckDB file that Glossator did not make (it has tables but no table 'migrations'); "
                "name another workspace"
            ) from None
        return scripts
    migrations = [script for script in scripts if script.file.startswith("migrations/")]
    known = {script.file for script in migrations}
    newer = sorted(file for file in applied if file.startswith("migrations/") and file not in known)
    if newer:
        raise UserError(
            f"{path} was written by a newer Glossator (its schema has {newer[-1]}, this program ends at "
            f"{migrations[-1].file}); upgrade Glossator or name another workspace"
        )
    for script in migrations:
        if applied.get(script.file, script.sha256) != script.sha256:
            raise UserError(
                f"{script.file} was edited after it was applied to {path}; restore its text and put the change "
                "into a new migration"
            )
    return [script for script in scripts if applied.get(script.file) != script.sha256]


def migrate(connection: duckdb.DuckDBPyConnection, path: Path, scripts: list[Script]) -> None:
    """Apply what is pending, each script in its own transaction."""
    lacking = pending(connection, path, scripts)
    if lacking and not connection.execute(f"SELECT 1 FROM {TABLES}").fetchone():
        connection.execute(RECORD)
    for script in lacking:
        connection.begin()
        try:
            connection.execute(script.sql)
            connection.execute(
                "INSERT INTO migrations VALUES (?, ?, (now() AT TIME ZONE 'UTC'))", [script.file, script.sha256]
            )
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
