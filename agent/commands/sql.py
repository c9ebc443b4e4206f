"""`glossator sql`: any question to the store."""

from typing import Annotated

import typer

from agent.commands import options as o
from store.errors import UserError


def sql(
    query: Annotated[str, typer.Argument(help="Any query; the store is opened read-only.")],
    format: Annotated[str, typer.Option(help="table, json or csv.")] = "table",
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Query the store: tables hold the facts, views the review questions."""
    from agent.screen.tables import FORMATS, print_rows
    from agent.session import open_session
    from agent.settings import load

    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}: name one of {', '.join(FORMATS)}.")
    with open_session(load(locals())) as session:
        session.need_workspace()
        columns, rows = session.ledger.sql(query)
    print_rows(columns, rows, "json" if json else format)
