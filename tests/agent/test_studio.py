"""langgraph.json: the graph as the ecosystem's own tools find, draw and run it."""

import asyncio
import json
from importlib import import_module
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from agent.graph import STEPS
from store.types import Conclusion
from tests.agent.agent_script import QUESTION, acts
from tests.agent.conftest import Commands
from tests.stub_llm import ROOT, Stub


def named() -> Any:
    """The factory that langgraph.json names."""
    (path,) = json.loads((ROOT / "langgraph.json").read_text())["graphs"].values()
    file, name = path.split(":")
    return getattr(import_module(file.removeprefix("./").removesuffix(".py").replace("/", ".")), name)


def test_the_graph_is_drawn_without_a_subject(run: Commands) -> None:
    async def drawn() -> set[str]:
        async with named()({"configurable": {}}) as graph:
            return set(graph.compile().get_graph().nodes)

    assert set(STEPS) <= asyncio.run(drawn())
    assert not run.workspace.exists()


def test_the_graph_runs_on_the_settings(world: Commands, llm: Stub) -> None:
    llm.configure(behaviour="agent", acts=acts())

    async def answered() -> Any:
        config = {"configurable": {"thread_id": "studio", "__is_for_execution__": True}, "recursion_limit": 200}
        async with named()(config) as graph:
            return await graph.compile(checkpointer=InMemorySaver()).ainvoke(
                {"question": QUESTION},
                config,
                context={},  # as langgraph's server calls it
            )

    assert asyncio.run(answered())["case"]["next"] == "end"
    (ended,) = world.ledger.find(Conclusion)
    assert ended.reason == "concluded"
