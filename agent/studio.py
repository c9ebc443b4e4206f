"""The graph as langgraph's own tools open it (langgraph.json): drawn without a subject, run on one of the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig

from agent.graph import build
from agent.inquiry.investigate import open_lab
from agent.inquiry.limits import limits_of
from agent.session import open_session
from agent.settings import load

RUNS = "__is_for_execution__"  # set by langgraph's server when the graph is opened to be run


@asynccontextmanager
async def investigation(config: RunnableConfig) -> AsyncIterator[Any]:
    """The graph; its input is `{"question": "what does latent 7 do?"}`, its thread the server's."""
    given: dict[str, Any] = dict(config.get("configurable") or {})
    if not given.get(RUNS):
        yield build()
        return
    settings = load()
    with open_session(settings) as session:
        limits = limits_of(settings, interactive=True)
        lab = open_lab(session, str(given.get("thread_id", "studio")), limits)
        try:
            yield build(lab)
        finally:
            await lab.llm.aclose()
