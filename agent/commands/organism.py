"""`glossator organism`: models whose truth is known, to try a finder on."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, meter, put, say
from store.errors import UserError

NARROW = 60  # cells: below, what is hidden stands under the name
NOTHING = "nothing: the base model"

organism_app = typer.Typer(help="Model organisms: list them, test what they do, train one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of an organism; glossator organism list shows them.")]


@organism_app.command("list")
def list_organisms(json: o.Json = False) -> None:
    """Every organism, what is hidden in it, and how large its adapter is. This tells the truth: do not peep."""
    from tools.organisms.catalogue import ORGANISMS
    from tools.workbench.adapters import WEIGHTS

    found: list[dict[str, Any]] = []
    for known in ORGANISMS.values():
        size = (known.shipped / WEIGHTS).stat().st_size if known.shipped else 0
        found.append({"name": known.name, "truth": known.truth, "suspicion": known.suspicion, "bytes": size})

    def render(console: Console) -> None:
        if console.width < NARROW:
            for row in found:
                console.print(Text(row["name"], "bold"))
                console.print(Padding(Text(row["truth"] or NOTHING), (0, 0, 0, 2)))
            return
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("organism", no_wrap=True)
        table.add_column("MB", justify="right", no_wrap=True)
        table.add_column("what is hidden in it")
        for row in found:
            table.add_row(
                row["name"],
                f"{row['bytes'] / 1e6:.2f}" if row["bytes"] else "-",
                Text(row["truth"] or NOTHING),
            )
        console.print(table)

    emit(found, json, render)


@organism_app.command("ask")
def ask_organism(
    name: Name,
    tool: Annotated[str, typer.Argument(help="Name of a tool, such as bidirectional_check.")],
    json: o.Json = False,
) -> None:
    """Print the input by which a tool asks for what an organism was taught, a JSON object for glossator tool call."""
    from tools.organisms.catalogue import organism

    asks = organism(name).asks
    if tool not in asks:
        ways = f"name one of {', '.join(asks)}." if asks else "none asks for what this organism was taught."
        raise UserError(f"The tool {tool!r} does not ask {name} for what it was taught: {ways}")
    emit(asks[tool], True, lambda console: None)


@organism_app.command()
def train(
    name: Name,
    folder: Annotated[Path | None, typer.Option(help="Folder for the adapter; by default in the workspace.")] = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Train an organism's LoRA on the embedded model: minutes on a CPU; interrupted, it goes on from the last epoch."""
    from agent.session import open_session
    from agent.settings import load
    from tools.organisms.catalogue import organism

    recipe = organism(name).recipe
    if recipe is None:
        raise UserError(f"{name} is the base model: there is nothing to train.")
    with open_session(load(locals())) as session:
        from tools.organisms.training import train as fit

        place = folder or session.workspace / "adapters" / name
        with meter(f"training {name}, examples") as advance:
            finished = fit(name, recipe, place, advance)
    line = f"{finished} holds the adapter; try glossator organism test {name} --adapter {finished}."
    emit({"folder": str(finished)}, json, lambda console: put(console, Text(line)))


@organism_app.command("test")
def behaviour(
    name: Name,
    adapter: o.Adapter = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Measure what an organism does, that it does not leak, and what it left alone; a failed check ends with code 1."""
    from agent.session import open_session
    from agent.settings import load
    from tools.organisms.catalogue import organism
    from tools.workbench.run import run

    organism(name)
    settings = load(locals() | {"adapter": adapter or name})
    with open_session(settings) as session:
        say(f"Measuring {name}, which takes a minute or so.")
        experiment = asyncio.run(run("organism_behaviour", {"organism": name}, session.context()))
    if experiment.error:
        raise UserError(experiment.error)
    output = experiment.output or {}
    emit({"id": experiment.id, **output}, json, lambda console: _render(console, experiment.id, output))
    if not output["passed"]:
        raise typer.Exit(1)


def _render(console: Console, id: str, output: dict[str, Any]) -> None:
    """Its truth, then a line for each check."""
    put(console, Text(output["truth"] or "nothing is hidden: the base model", "bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("", "value", "interval", "n", "wanted"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=heading != "")
    for check in output["checks"]:
        table.add_row(
            Text(check["what"]),
            Text(f"{check['value']:.2f}", "" if check["passed"] else "red"),
            Text(f"[{check['low']:.2f}, {check['high']:.2f}]"),
            f"{check['n']:,}",
            check["wanted"],
        )
    console.print(table)
    put(console, Text(output["verdict"]))
    put(console, Text(f"row {id[:8]}", "dim"))
