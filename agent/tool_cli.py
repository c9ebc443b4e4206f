"""`glossator tool` and `glossator replay`: every tool by hand, and any experiment again."""

import asyncio
import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent import options as o
from agent.console import emit
from agent.settings import load
from agent.show import clean
from store.errors import UserError

if TYPE_CHECKING:
    from agent.session import Session
    from store.types import Experiment

tool_app = typer.Typer(help="The tools: list them, show what they take and give, call one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a tool; glossator tool list shows them.")]
TOLERANCE = 1e-6  # relative, between the numbers of an output and of its replay


@tool_app.command("list")
def list_tools(json: o.Json = False) -> None:
    """Every tool by family, with the first line of what it says of itself."""
    from tools.workbench.registry import tools

    found = [
        {"name": tool.name, "family": tool.family, "version": tool.version, "doc": tool.doc.partition("\n")[0]}
        for tool in tools().values()
    ]

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
    """Run one tool and print its experiment as JSON; it is in the ledger."""
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
    emit({"id": experiment.id, **experiment.model_dump(mode="json")}, True, lambda console: None)


def replay(
    id: Annotated[str, typer.Argument(help="Id of an experiment, or its first digits.")],
    model: o.Model = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Run an experiment again and compare; a difference ends with exit code 1."""
    settings = load(locals())
    from agent.session import open_session
    from store.types import Experiment

    with open_session(settings) as session:
        first = session.ledger.resolve(id)
        if not isinstance(first, Experiment):
            raise UserError(f"{id} is a row of {first.table}, not an experiment: give an experiment's id.")
        session.settings = settings.model_copy(update={"seed": first.seed})
        again = asyncio.run(_run(session, first.tool, first.input))
    same_key = again.key == first.key
    found = differences(first.output or {"error": first.error}, again.output or {"error": again.error})
    document = {"first": first.id, "again": again.id, "same_surroundings": same_key, "differences": found}

    def render(console: Console) -> None:
        if not same_key:
            console.print(Text("The surroundings differ: another tool version, subject or harvest.", "yellow"))
        for line in found:
            console.print(Text(clean(line)), soft_wrap=True)
        outcome = f"{len(found):,} differences" if found else "the same output"
        console.print(f"{first.tool} {first.id[:12]} again: {outcome}.")

    emit(document, json, render)
    if found or not same_key:
        raise typer.Exit(1)


def differences(first: Any, again: Any, path: str = "output") -> list[str]:
    """Where two JSON values differ, one line each; numbers may differ by a millionth."""
    if isinstance(first, dict) and isinstance(again, dict):
        keys = sorted(first.keys() | again.keys())
        return [line for key in keys for line in differences(first.get(key), again.get(key), f"{path}.{key}")]
    if isinstance(first, list) and isinstance(again, list) and len(first) == len(again):
        pairs = enumerate(zip(first, again, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}[{i}]")]
    if isinstance(first, int | float) and isinstance(again, int | float) and not isinstance(first, bool):
        if abs(first - again) <= TOLERANCE * max(1.0, abs(first), abs(again)):
            return []
    elif first == again:
        return []
    return [f"{path}: {jsons.dumps(first)[:80]} became {jsons.dumps(again)[:80]}"]


async def _run(session: "Session", name: str, input: dict[str, Any]) -> "Experiment":
    from tools.workbench.registry import get_tool
    from tools.workbench.run import run

    llm = session.llm() if get_tool(name).is_async else None
    try:
        return await run(name, input, session.context(session.find_harvest(), llm))
    finally:
        if llm is not None:
            await llm.aclose()
