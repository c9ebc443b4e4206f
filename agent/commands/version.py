"""`glossator --version`."""

from importlib import metadata
from typing import Annotated

import typer

from store.errors import UserError


def _print(asked: bool) -> None:
    if not asked:
        return
    try:
        typer.echo(f"glossator {metadata.version('glossator')}")
    except metadata.PackageNotFoundError:
        raise UserError("Glossator is not installed here, so its version is unknown: run pip install -e .") from None
    raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print, is_eager=True, help="Print the version and exit.")]


def options(version: Version = False) -> None:
    """What may stand before a command."""
