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
TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
RECORD = "CREATE TABLE migrations (file VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"


@dataclass(frozen=True)
class Script:
    """One SQL file: `migrations/NNNN_name.sql` or `views/name.sql`."""

    file: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def _scripts(kind: str) -> list[Script]:
    return [Script(f"{kind}/{path.name}", path.read_text("utf-8")) for path in sorted((FOLDER / kind).glob("*.sql"))]


def view_names() -> list[str]:
    """The names of the views, one a file."""
    return [Path(script.file).stem for script in _scripts("views")]


def pending(connection: duckdb.DuckDBPyConnection, path: Path) -> list[Script]:
    """The scripts this store still lacks, in order. Raises UserError when this program may not touch the store."""
    tables = {name for (name,) in connection.execute(TABLES).fetchall()}
    if tables and "migrations" not in tables:
        raise UserError(
            f"{path} is a DuckDB file that Glossator did not make (it has tables but no table 'migrations'); "
            "name another workspace"
        )
    applied: dict[str, str] = {}
    if tables:  # in the order of application: of a view, the last text counts
        applied = dict(connection.execute("SELECT file, sha256 FROM migrations ORDER BY rowid").fetchall())
    migrations, views = _scripts("migrations"), _scripts("views")
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
    return [script for script in migrations + views if applied.get(script.file) != script.sha256]


def migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply the pending scripts, each in its own transaction."""
    scripts = pending(connection, path)
    if scripts and ("migrations",) not in connection.execute(TABLES).fetchall():
        connection.execute(RECORD)
    for script in scripts:
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
