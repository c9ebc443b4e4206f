"""`glossator tool`: every tool by hand."""

import asyncio
import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, late_meter, rated
from agent.settings import load
from store.errors import UserError

if TYPE_CHECKING:
    from agent.session import Session
    from store.types import Experiment

tool_app = typer.Typer(help="The tools: list them, show what they take and give, call one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a tool; glossator tool list shows them.")]


@tool_app.command("list")
def list_tools(json: o.Json = False) -> None:
    """Every tool by family, with the first line of what it says of itself."""
    from tools.workbench.menu import menu

    found = [entry._asdict() for entry in menu()]

    def render(console: Console) -> None:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("tool", no_wrap=True)
        table.add_column("family", no_wrap=True, style="dim")
        table.add_column("what it does")
        for tool in sorted(found, key=lambda t: (t["family"], t["name"])):
            table.add_row(str(tool["name"]), str(tool["family"]), Text(str(tool["doc"])))
        console.print(table)

    emit(found, json, render)


@tool_app.command()
def schema(name: Name, json: o.Json = False) -> None:
    """What a tool takes and gives, as JSON schemas, and all it says of itself."""
    from tools.workbench.registry import get_tool

    tool = get_tool(name)
    found = {
        "name": tool.name,
        "family": tool.family,
        "version": tool.version,
        "doc": tool.doc,
        "input": tool.input.model_json_schema(),
        "output": tool.output.model_json_schema(),
    }

    emit(found, True, lambda console: None)


@tool_app.command()
def call(
    name: Name,
    input: Annotated[str, typer.Argument(help="The tool's input, a JSON object.")] = "{}",
    model: o.Model = None,
    adapter: o.Adapter = None,
    base: o.Base = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Run one tool and show what it found; the experiment is in the ledger, and --json prints all of it."""
    settings = load(locals())
    from agent.session import open_session
    from tools.workbench.registry import get_tool
    from tools.workbench.run import validate

    try:
        values = jsons.loads(input)
    except jsons.JSONDecodeError as error:
        raise UserError(f"The input is not JSON ({error}): write an object such as '{{\"latent\": 7}}'.") from None
    if not isinstance(values, dict):
        raise UserError("The input is not a JSON object: write one such as '{\"latent\": 7}'.")
    validate(get_tool(name), values)
    with open_session(settings) as session:
        experiment = asyncio.run(_run(session, name, values))
    if experiment.error:
        raise UserError(experiment.error)
    emit({"id": experiment.id, **experiment.model_dump(mode="json")}, json, lambda c: c.print(_panel(experiment, c)))


def _panel(experiment: "Experiment", console: Console) -> RenderableType:
    from agent.screen.panels import call_of, call_panel

    return call_panel(call_of(experiment), console)


async def _run(session: "Session", name: str, input: dict[str, Any]) -> "Experiment":
    from tools.workbench.registry import get_tool
    from tools.workbench.run import run, validate

    tool = get_tool(name)
    roles = tool.asked(validate(tool, input))
    llm = session.llm(roles=roles) if roles else None
    try:
        context = session.context(session.find_harvest(), llm)
        with late_meter(name) as advance:
            context.progress = rated(advance)
            return await run(name, input, context)
    finally:
        if llm is not None:
            await llm.aclose()
