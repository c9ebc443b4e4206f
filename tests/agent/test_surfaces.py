"""The same menu for langgraph, for MCP clients and for Python: thin, recorded, and failing in one sentence."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.prebuilt import ToolNode
from mcp import Client, MCPError, StdioServerParameters

from agent import open_session
from agent.settings import load
from agent.surfaces import langgraph_tools, open_menu
from store.errors import UserError
from store.types import Experiment
from tests.agent.conftest import Commands
from tests.stub_llm import ROOT
from tests.tools.world import ANIMAL
from tools.workbench.registry import ToolError, tools

MAIN = "tests.agent.planted_main"
BAD = "top_examples cannot take that input (latent: Input should be a valid integer"
AT = {"latent": ANIMAL, "top": 1, "deciles": 0, "random": 0}


def called(name: str, **input: Any) -> dict[str, Any]:
    """The state of a graph whose LLM has just called a tool."""
    call = {"name": name, "args": input, "id": "1", "type": "tool_call"}
    return {"messages": [AIMessage(content="", tool_calls=[call])]}


async def answered(state: dict[str, Any]) -> Any:
    async with open_menu(load()) as menu:
        return (await ToolNode(langgraph_tools(menu)).ainvoke(state))["messages"][0]


def test_langgraph_runs_the_menu(world: Commands) -> None:
    message = asyncio.run(answered(called("top_examples", **AT)))
    assert message.status == "success"
    assert json.loads(message.content)["id"] == message.artifact.id
    assert world.ledger.get(Experiment, message.artifact.id) == message.artifact


def test_langgraph_hears_of_bad_arguments_in_one_sentence(world: Commands) -> None:
    message = asyncio.run(answered(called("top_examples", latent="many")))
    assert message.status == "error"
    assert message.content.startswith(BAD)
    assert "\n" not in message.content
    message = asyncio.run(answered(called("activate_on_text", latent=ANIMAL, texts=[""])))
    assert (message.status, message.content) == ("error", "A text is empty: give at least one token of text.")


def test_langgraph_gets_the_families_it_asks_for(world: Commands) -> None:
    async def names() -> set[str]:
        async with open_menu(load()) as menu:
            return {tool.name for tool in langgraph_tools(menu, ["lookup"])}

    assert asyncio.run(names()) == {name for name, tool in tools().items() if tool.family == "lookup"}


def serving(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", MAIN, "mcp", *arguments, "--workspace", str(folder / "glossator-workspace")]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, world: Commands) -> Iterator[Any]:
    """What the official client connects to: a command to start, or the URL of a server that runs."""
    if request.param == "stdio":
        arguments = ["-m", MAIN, "mcp", "--workspace", str(world.workspace)]
        yield StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT)
        return
    with serving(world.folder, "--http", "--port", "0", "--json") as process:
        assert process.stdout is not None
        line = "".join(process.stdout.readline() for _ in range(3))
        yield json.loads(line)["url"]
        process.terminate()


def test_the_official_client(server: Any, world: Commands) -> None:
    """One connection from the handshake to a cancelled call: list, schemas, call, progress, cancellation."""
    stray: list[Any] = []
    beats: list[tuple[float, float | None, str | None]] = []

    async def hear(message: Any) -> None:
        if isinstance(message, Exception):
            stray.append(message)

    async def beat(*progress: Any) -> None:
        beats.append(progress)

    async def talk() -> None:
        async with Client(server, message_handler=hear) as client:
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"top_examples", "explain_latent", "show", "wait"} <= set(listed)
            assert listed["top_examples"].input_schema["properties"]["latent"]["type"] == "integer"
            assert "deciles" in (listed["top_examples"].description or "")

            found = await client.call_tool("top_examples", AT)
            assert not found.is_error
            brief = found.structured_content
            assert world.ledger.get(Experiment, brief["id"]) is not None
            row = (await client.call_tool("show", {"id": brief["id"][:8]})).structured_content
            assert row["output"]["top"][0]["tokens"]

            bad = await client.call_tool("top_examples", {"latent": "many"})
            assert bad.is_error
            assert bad.content[0].text.startswith(BAD)
            unknown = await client.call_tool("show", {"id": "ffffffff"})
            assert unknown.is_error
            with pytest.raises(MCPError, match="There is no tool 'nothing'"):
                await client.call_tool("nothing", {})

            assert not (await client.call_tool("chatter", {})).is_error
            await client.call_tool("wait", {"seconds": 1.2}, progress_callback=beat)
            assert [(total, note) for _, total, note in beats][-1] == (1.2, "wait, 1 s")
            assert beats == sorted(beats, key=lambda beat: beat[0])

            began = time.monotonic()
            call = asyncio.create_task(client.call_tool("wait", {"seconds": 60}))
            await asyncio.sleep(0.3)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert not (await client.call_tool("wait", {"seconds": 0})).is_error, "the device is free again"
            assert time.monotonic() - began < 20

    asyncio.run(talk())
    assert stray == []
    waits = [e.input["seconds"] for e in world.ledger.find(Experiment, tool="wait")]
    assert waits == [1.2, 0], "what was cancelled is not in the ledger"


def test_a_taken_port_is_a_sentence(run: Commands) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("mcp", "--http", "--port", port).sentence.startswith(f"Port {port} of 127.0.0.1 cannot be had")


def test_python_tools_are_plain_functions(world: Commands) -> None:
    with open_session(workspace=world.workspace) as session:
        assert "top_examples" in dir(session.tools)
        assert "every decile" in str(session.tools.top_examples.__doc__)
        found = session.tools.top_examples(**AT)
        assert found.output.top[0].peak == found.output.max  # type: ignore[attr-defined]
        assert session.sql(f"SELECT tool FROM experiments WHERE id = '{found.id}'") == [{"tool": "top_examples"}]
        assert repr(found).startswith(f"top_examples {found.id[:8]}: fires on")
        with pytest.raises(UserError, match="cannot take that input"):
            session.tools.top_examples(latent="many")
        with pytest.raises(ToolError, match="A text is empty"):
            session.tools.activate_on_text(latent=ANIMAL, texts=[""])
        with pytest.raises(AttributeError, match="no tool 'nothing'"):
            _ = session.tools.nothing


def test_python_inside_a_running_event_loop(world: Commands) -> None:
    async def cell() -> str:
        with open_session(workspace=world.workspace) as session:
            return session.tools.top_examples(**AT).experiment.tool

    assert asyncio.run(cell()) == "top_examples"


@pytest.mark.parametrize(("name", "hint"), [("workspaec", "did you mean workspace?"), ("zzzz", "see glossator config")])
def test_an_unknown_setting_from_python(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"There is no setting '{name}': {hint}".replace("?", r"\?")):
        open_session(**{name: "x"})
