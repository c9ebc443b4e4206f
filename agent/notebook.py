"""Glossator from Python: a session whose tools are plain functions, in a script or in a notebook."""

import asyncio
import atexit
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.inquiry.brief import brief
from agent.session import Session, use_cache
from agent.settings import Settings, load
from agent.surfaces import Menu
from store.errors import UserError
from store.types import Experiment
from tools.workbench.registry import Tool, ToolError, ToolOutput, get_tool, tools

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What a tool found: its typed `output`, and the `experiment` that is in the ledger."""

    experiment: Experiment
    output: ToolOutput

    @property
    def id(self) -> str:
        return self.experiment.id

    def __repr__(self) -> str:
        return f"{self.experiment.tool} {self.id[:8]}: {brief(self.experiment).verdict}"


class Toolbox:
    """Every tool as a function of its input's fields: `tools.top_examples(latent=7)`; `dir(tools)` lists them."""

    def __init__(self, call: Callable[[Tool, dict[str, Any]], Run]) -> None:
        self._call = call

    def __dir__(self) -> list[str]:
        return list(tools())

    def __iter__(self) -> Iterator[str]:
        return iter(tools())

    def __getattr__(self, name: str) -> Callable[..., Run]:
        if name not in tools():
            raise AttributeError(f"there is no tool {name!r}; dir(session.tools) lists them")
        tool = get_tool(name)

        def function(**input: Any) -> Run:
            return self._call(tool, input)

        function.__name__ = function.__qualname__ = tool.name
        function.__doc__ = tool.doc
        signature = inspect.signature(tool.input).replace(return_annotation=Run)
        function.__signature__ = signature  # type: ignore[attr-defined]  # read by help() and inspect, unknown to mypy
        return function


class Notebook:
    """An open session. Everything it runs goes to the ledger of its workspace. Close with `close`, or use `with`.

    Coroutines run on a thread of their own, so that it works inside a running event loop as well.
    """

    def __init__(self, settings: Settings) -> None:
        self.session = Session(settings)
        self.tools = Toolbox(self._run)
        self._menu = Menu(self.session)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="glossator", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows of a read-only query on the store. UserError when DuckDB refuses it."""
        columns, rows = self.session.ledger.sql(query)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Ends what runs and writes what is not written yet. The end of the program does it, too."""
        if self._loop.is_closed():
            return
        atexit.unregister(self.close)
        self._wait(self._menu.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.session.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, tool: Tool, input: dict[str, Any]) -> Run:
        """ToolError when the tool fails, UserError when the input does not fit, both in one sentence."""
        experiment = self._wait(self._menu.call(tool.name, input))
        if experiment.output is None:
            raise ToolError(str(experiment.error))
        return Run(experiment, tool.output.model_validate(experiment.output))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # an interrupted cell stops what it began
            future.cancel()
            raise


def open_session(**settings: Any) -> Notebook:
    """A session with the settings of glossator config, those named here overruling them.

    >>> from agent import open_session
    >>> session = open_session(workspace="glossator-workspace")
    >>> found = session.tools.activate_on_text(latent=41, texts=["The cat sat on the mat."])
    >>> len(found.output.readings[0].tokens)
    7
    >>> session.sql(f"SELECT tool FROM experiments WHERE id = '{found.id}'")
    [{'tool': 'activate_on_text'}]
    >>> session.close()

    Subject and LLM are loaded when a tool first needs them. UserError, in one sentence, for a setting that does not
    exist or does not fit.
    """
    for name in sorted(set(settings) - set(Settings.model_fields)):
        near = get_close_matches(name, Settings.model_fields, 1)
        raise UserError(
            f"There is no setting {name!r}: {f'did you mean {near[0]}?' if near else 'see glossator config.'}"
        )
    loaded = load(settings)
    use_cache(loaded)
    return Notebook(loaded)
