"""The same menu for langgraph, for MCP clients and for Python: thin, recorded, and failing in one sentence."""

import asyncio
import doctest
import json
import socket
import sys
from importlib import import_module
from typing import Any

import httpx2
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from mcp import Client, MCPError, StdioServerParameters

from agent import notebook, open_session
from agent.mcp_server import listen, serve_http, url
from agent.settings import load
from agent.surfaces import langgraph_tools, open_menu
from prompts.providers import Endpoint
from store.errors import UserError
from store.types import Experiment
from tests.agent.conftest import Commands
from tests.stub_llm import ROOT, Stub
from tests.tools.world import ANIMAL
from tools.lookup.top_examples import Output
from tools.workbench import registry
from tools.workbench.registry import ToolError, tools
from tools.workbench.subject import Subject

BAD = "top_examples cannot take that input: latent: Input should be a valid integer"
AT = {"latent": ANIMAL, "top": 1, "deciles": 0, "random": 0}


@pytest.fixture
def more_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The menu with the tools of planted_tools, until the test ends."""
    tools()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))
    sys.modules.pop("tests.agent.planted_tools", None)
    import_module("tests.agent.planted_tools")


def called(name: str, **input: Any) -> dict[str, Any]:
    """The state of a graph whose LLM has just called a tool."""
    call = {"name": name, "args": input, "id": "1", "type": "tool_call"}
    return {"messages": [AIMessage(content="", tool_calls=[call])]}


async def answered(state: dict[str, Any]) -> Any:
    async with open_menu(load()) as menu:
        graph = StateGraph(MessagesState).add_node("tools", ToolNode(langgraph_tools(menu))).set_entry_point("tools")
        return (await graph.compile().ainvoke(state))["messages"][-1]


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


def test_only_the_llm_that_a_tool_asks_is_opened(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explainer has an endpoint, the judge has none: it is fetched when a tool asks it, and not before."""
    for name, value in (("BASE_URL", llm.base_url), ("MODEL", "stub")):
        monkeypatch.setenv(f"GLOSSATOR_EXPLAINER_{name}", value)
        monkeypatch.delenv(f"GLOSSATOR_LLM_{name}")
    fetched = []
    served = Endpoint(base_url=llm.base_url, model="embedded")
    monkeypatch.setattr("prompts.local.embedded_endpoint", lambda: fetched.append("judge") or served)

    async def calls() -> None:
        async with open_menu(load()) as menu:
            explained = await menu.call("explain_latent", {"latent": ANIMAL})
            assert explained.output is not None, explained.error
            assert fetched == []
            scored = await menu.call("score_detection", {"latent": ANIMAL, "text": explained.output["text"]})
            assert scored.output is not None, scored.error
            assert (fetched, scored.output["judge"]) == (["judge"], "embedded")

    asyncio.run(calls())


async def converse(server: Any, world: Commands) -> None:
    """One connection of the official client, from the handshake to a cancelled call."""
    stray: list[Any] = []
    beats: list[tuple[float, float | None, str | None]] = []

    async def hear(message: Any) -> None:
        if isinstance(message, Exception):
            stray.append(message)

    async def beat(*progress: Any) -> None:
        beats.append(progress)

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
        assert bad.content[0].model_dump()["text"].startswith(BAD)
        assert (await client.call_tool("show", {"id": "ffffffff"})).is_error
        assert (await client.call_tool("show", {})).is_error
        with pytest.raises(MCPError, match="There is no tool 'nothing'"):
            await client.call_tool("nothing", {})

        assert not (await client.call_tool("chatter", {})).is_error
        await client.call_tool("wait", {"seconds": 1.2}, progress_callback=beat)
        assert [(total, note) for _, total, note in beats][-1] == (1.2, "wait, 1 s")
        assert beats == sorted(beats, key=lambda beat: beat[0])

        call = asyncio.create_task(client.call_tool("wait", {"seconds": 3600}))
        await asyncio.sleep(0.3)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        async with asyncio.timeout(20):
            assert not (await client.call_tool("wait", {"seconds": 0})).is_error, "the device is free again"
    assert stray == [], "nothing but the protocol is on the wire"
    waits = [experiment.input["seconds"] for experiment in world.ledger.find(Experiment, tool="wait")]
    assert waits == [1.2, 0], "what was cancelled is not in the ledger"


def test_mcp_over_stdio(world: Commands) -> None:
    arguments = ["-m", "tests.agent.planted_main", "mcp", "--workspace", str(world.workspace)]
    asyncio.run(converse(StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT), world))


def test_mcp_over_http(world: Commands, more_tools: None) -> None:
    async def talk() -> None:
        with listen(0) as listening:
            serving = asyncio.create_task(serve_http(load(), listening))
            await converse(url(listening), world)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(talk())


def test_mcp_over_http_is_for_this_machine_alone(world: Commands) -> None:
    async def talk() -> int:
        with listen(0) as listening:
            assert listening.getsockname()[0] == "127.0.0.1"
            serving = asyncio.create_task(serve_http(load(), listening))
            async with httpx2.AsyncClient(trust_env=False) as client:
                reply = await client.post(url(listening), json={}, headers={"host": "elsewhere.example"})
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return reply.status_code

    assert asyncio.run(talk()) == 421


def test_a_taken_port_is_a_sentence(run: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("mcp", "--http", "--port", port).sentence.startswith(f"Port {port} of 127.0.0.1 cannot be had")


def test_python_tools_are_plain_functions(world: Commands) -> None:
    with open_session(workspace=world.workspace) as session:
        assert "top_examples" in dir(session.tools)
        assert "every decile" in str(session.tools.top_examples.__doc__)
        found = session.tools.top_examples(**AT)
        assert isinstance(found.output, Output)
        assert found.output.top[0].peak == found.output.max
        assert session.sql(f"SELECT tool FROM experiments WHERE id = '{found.id}'") == [{"tool": "top_examples"}]
        assert repr(found).startswith(f"top_examples {found.id[:8]}: strongest")
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


def test_the_example_in_the_documentation_works(
    subject: Subject, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    found = doctest.DocTestFinder().find(notebook.open_session, "open_session", globs={})
    assert sum(len(test.examples) for test in found) == 6
    for test in found:
        assert doctest.DocTestRunner().run(test).failed == 0
