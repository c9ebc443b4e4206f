"""`glossator review`: the scoreboard, or the desk when a person sits at the terminal; verdicts by one command each."""

import getpass
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from agent.batch.labels import Label, Sort, read, select
from agent.commands import options as o
from agent.screen.console import emit
from agent.settings import Settings, load
from store.errors import UserError
from store.types import Verdict

review_app = typer.Typer(help="Look at labels and accept, reject or rewrite them.", invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="LABEL", help="A latent's number, or an explanation's id, first digits do.")]
Reviewer = Annotated[str | None, typer.Option(help="Your name, by default the system's.")]
ORDER = (
    "Order of the labels. best: first those whose scores all clear chance and floor, by the least clear of them; "
    "doubtful: the reverse; disagreement: of the scorers."
)
Note = Annotated[str, typer.Option(help="Why.")]


@review_app.callback()
def review(
    context: typer.Context,
    words: Annotated[str, typer.Option(help="Only labels that hold all these words.")] = "",
    latent: Annotated[int | None, typer.Option(help="Only this latent.")] = None,
    method: Annotated[str | None, typer.Option(help="Only labels by this tool, or by a person.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only accept, reject, rewrite, or none for unreviewed.")] = None,
    sort: Annotated[Sort, typer.Option(help=ORDER)] = Sort.LATENT,
    limit: Annotated[int | None, typer.Option(min=1, help="So many labels at most.")] = None,
    reviewer: Reviewer = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """The labels with their scores; on a terminal, a desk to judge them at."""
    if context.invoked_subcommand:
        _hand_down(context, context.invoked_subcommand)
        return
    from agent.batch.report import scoreboard
    from agent.review.desk import Desk
    from agent.session import open_session

    if verdict not in (None, "none", *Verdict):
        raise UserError(f"There is no verdict {verdict!r}: name {', '.join(Verdict)} or none.")
    settings = load(locals())
    filters: dict[str, Any] = {"words": words, "latent": latent, "method": method, "verdict": verdict, "sort": sort}
    with open_session(settings) as session:
        session.need_workspace()
        labels = select(read(session.ledger), **filters)[:limit]
    if not json and sys.stdin.isatty() and sys.stdout.isatty() and labels:
        console = Console(highlight=False)
        desk = Desk(session.ledger, _name(settings), filters, console, console.input)
        desk.sit()
        console.print(Text(f"{desk.decided:,} verdicts given."))
        return

    def render(console: Console) -> None:
        if labels:
            console.print(scoreboard(labels, console))
        else:
            console.print("There are no such labels; glossator label makes some.")

    emit([label.document() for label in labels], json, render)


def _hand_down(context: typer.Context, command: str) -> None:
    """Options written before the verdict count as if written after it; UserError for those that pick labels to list."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    for name in sorted(given - {"reviewer", "workspace", "json"}):
        raise UserError(f"--{name} picks labels to list, and {command} takes one by its id: leave --{name} out.")
    context.default_map = {command: {name: context.params[name] for name in given}}


@review_app.command()
def accept(
    id: Id, reviewer: Reviewer = None, note: Note = "", workspace: o.Workspace = None, json: o.Json = False
) -> None:
    """Say that an explanation is right."""
    _verdict(load(locals()), id, Verdict.ACCEPT, note, None, json)


@review_app.command()
def reject(
    id: Id, reviewer: Reviewer = None, note: Note = "", workspace: o.Workspace = None, json: o.Json = False
) -> None:
    """Say that an explanation is wrong."""
    _verdict(load(locals()), id, Verdict.REJECT, note, None, json)


@review_app.command()
def rewrite(
    id: Id,
    text: Annotated[str, typer.Argument(help="The better explanation.")],
    reviewer: Reviewer = None,
    note: Note = "",
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Replace an explanation by a better one; the old one stays in the ledger."""
    _verdict(load(locals()), id, Verdict.REWRITE, note, text, json)


def _verdict(settings: Settings, id: str, verdict: Verdict, note: str, text: str | None, json: bool) -> None:
    from agent.batch.report import mark
    from agent.review.cards import decide
    from agent.session import open_session

    with open_session(settings) as session:
        review = decide(session.ledger, _of_latent(read(session.ledger), id), verdict, _name(settings), note, text)
    said = Text.assemble(mark(verdict.value), f" by {review.reviewer}: {review.explanation[:12]}")
    emit({"id": review.id, **review.model_dump(mode="json")}, json, lambda console: console.print(said))


def _of_latent(labels: list[Label], given: str) -> str:
    """The id of the one label of a latent, where `given` is a latent's number; else `given`."""
    mine = [label for label in labels if str(label.index) == given]
    if len(mine) > 1:
        ids = ", ".join(f"{label.id[:12]} ({label.method} by {label.explainer})" for label in mine)
        raise UserError(f"Latent {given} has several labels: name one by its id, {ids}.")
    return mine[0].id if mine else given


def _name(settings: Settings) -> str:
    try:
        return settings.reviewer or getpass.getuser()
    except (OSError, KeyError):
        raise UserError("The system does not know your name: give --reviewer NAME.") from None
