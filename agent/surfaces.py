"""The menu for callers from outside: one way to run a tool on a session, and the menu as langgraph tools."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from agent.inquiry.brief import brief
from agent.session import Session, open_session
from agent.settings import Settings
from store.errors import UserError
from store.types import Experiment
from tools.workbench.menu import FAMILIES
from tools.workbench.registry import Tool, get_tool, tools

if TYPE_CHECKING:
    from prompts.ask import LLM
    from tools.workbench.context import Context
    from tools.workbench.registry import ToolInput


class Menu:
    """The tools on one session, for the callers of one event loop. Close with `aclose`.

    Subject, harvest and the LLM of each role are opened at the first call that needs them; the limits of the session's
    settings on dollars, calls and hours hold for all calls together.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._context: Context | None = None
        self._llm: LLM | None = None
        self._opening = asyncio.Lock()

    async def call(self, name: str, input: dict[str, Any]) -> Experiment:
        """Runs a tool; its experiment is in the ledger, its failure, if it failed, in `error`.

        UserError, in one sentence, for an unknown tool or input that does not fit: nothing was loaded or run.
        """
        tool, checked = await asyncio.to_thread(_checked, name, input)
        context = await self._surroundings(tool, checked)
        from tools.workbench.run import run

        return await run(name, checked, context)

    async def estimate(self, name: str, input: dict[str, Any]) -> float | None:
        """Seconds that the call would take, as the tool says; None when it does not say. UserError as for `call`."""
        tool, checked = await asyncio.to_thread(_checked, name, input)
        if tool.estimate is None:
            return None
        context = await self._surroundings(tool, checked)
        from tools.workbench.run import estimate

        return await estimate(name, checked, context)

    async def aclose(self) -> None:
        if self._llm is not None:
            await self._llm.aclose()

    async def _surroundings(self, tool: Tool, input: "ToolInput") -> "Context":
        from prompts.budget import Budget

        async with self._opening:
            if self._context is None:
                self._context = await asyncio.to_thread(self._open)
            roles = tool.asked(input)
            if roles and self._llm is None:
                s = self.session.settings
                budget = Budget(s.max_usd, s.max_calls, s.max_hours)
                self._llm = self._context.llm = await asyncio.to_thread(self.session.llm, budget, roles)
            for role in roles:
                if self._llm is not None and role not in self._llm.endpoints:
                    self._llm.serve(role, await asyncio.to_thread(self.session.endpoint, role))
        return self._context

    def _open(self) -> "Context":
        return self.session.context(self.session.find_harvest())


@asynccontextmanager
async def open_menu(settings: Settings) -> AsyncIterator[Menu]:
    """A menu on a session of its own."""
    with open_session(settings) as session:
        menu = Menu(session)
        try:
            yield menu
        finally:
            await menu.aclose()


def langgraph_tools(menu: Menu, families: Collection[str] = FAMILIES) -> list[BaseTool]:
    """The tools of `families` for langgraph's agents and ToolNode (asynchronous calls only).

    The content of a tool's message is the brief as JSON, its artifact the experiment. A failure, bad arguments
    included, is a message of status "error" that holds one sentence.
    """
    return [_langgraph_tool(menu, tool) for tool in tools().values() if tool.family in families]


def _langgraph_tool(menu: Menu, tool: Tool) -> BaseTool:
    async def answer(**input: Any) -> tuple[str, Experiment]:
        try:
            experiment = await menu.call(tool.name, input)
        except UserError as error:
            raise ToolException(str(error)) from None
        if experiment.error:
            raise ToolException(experiment.error)
        return json.dumps(brief(experiment)._asdict(), ensure_ascii=False), experiment

    return StructuredTool(
        name=tool.name,
        description=tool.doc,
        args_schema=tool.input.model_json_schema(),  # a schema, not the type: `run` alone judges the arguments
        coroutine=answer,
        response_format="content_and_artifact",
        handle_tool_error=True,
        metadata={"family": tool.family, "version": tool.version},
    )


def _checked(name: str, input: dict[str, Any]) -> "tuple[Tool, ToolInput]":
    """The tool and its input; the first call loads every tool, and with them torch."""
    tool = get_tool(name)
    from tools.workbench.run import validate

    return tool, validate(tool, input)
