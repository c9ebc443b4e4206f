"""`glossator export`: a thread as a report."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, say
from agent.settings import load
from store.errors import UserError


def export(
    thread: Annotated[str, typer.Argument(help="Thread; glossator hypotheses lists them.")],
    format: Annotated[str, typer.Option(help="md or html.")] = "md",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; by default it is printed.")] = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Write a report on a thread: claims, predictions and verdicts, evidence, figures (in HTML)."""
    from agent.inquiry.dossier import dossiers
    from agent.reports.export import FORMATS, report
    from agent.session import open_session

    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}: name one of {', '.join(FORMATS)}.")
    with open_session(load(locals())) as session:
        session.need_workspace()
        text = report(dossiers(session.ledger, thread), format)
    if out is not None:
        save(text, out)
        say(f"{out} holds the report.")
        text = ""
    if json or not out:
        emit({"thread": thread, "format": format, "report": text, "file": str(out) if out else None}, json,
             lambda console: console.print(Text(text), soft_wrap=True))  # fmt: skip


def save(report: str, out: Path) -> None:
    """Writes a report. UserError when the file cannot be written."""
    try:
        out.write_text(report, "utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): name another file.") from None
