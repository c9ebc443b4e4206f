"""The tool menu: one file, one tool, one function, one name.

`@tool(version=n)` registers a function `name(input: Input, context: Context) -> Output` and returns it unchanged. Its
docstring is what an agent reads; its pydantic `Input` and `Output` are its contract. Raise the version whenever the
same input may give another output. A tool that may take long states an `estimate` of its seconds, one that asks an LLM
often the number of its `calls`, so that callers can ask before they start it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict

from prompts.providers import Role
from store.errors import UserError
from tools.workbench.menu import FAMILIES


class ToolInput(BaseModel):
    """What a tool is asked: frozen, unknown fields refused, JSON-able."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def silent(self) -> bool:
        """Whether a run with this input asks no LLM although its tool may."""
        return False


class ToolOutput(BaseModel):
    """What a tool found: frozen, unknown fields refused, JSON-able."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolError(UserError):
    """A failure that the caller can act on: recorded as the experiment's error and shown. One sentence."""


Estimate = Callable[[Any, Any], float]  # (input, context) -> seconds the run will take, roughly
Calls = Callable[[Any, Any], int]  # (input, context) -> questions it will put to an LLM


@dataclass(frozen=True)
class Tool:
    """One entry of the menu."""

    name: str
    family: str
    version: int
    function: Callable[..., Any]
    input: type[ToolInput]
    output: type[ToolOutput]
    estimate: Estimate | None = None  # None: seconds at most
    asks: tuple[Role, ...] = ()  # the roles whose LLM it asks
    calls: Calls | None = None  # None: one

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def asked(self, input: ToolInput) -> tuple[Role, ...]:
        """The roles whose LLM a run with this input asks."""
        return () if input.silent else self.asks


F = TypeVar("F", bound=Callable[..., Any])

_tools: dict[str, Tool] = {}


def tool(
    version: int, estimate: Estimate | None = None, asks: tuple[Role, ...] = (), calls: Calls | None = None
) -> Callable[[F], F]:
    """Registers the function under its own name, in the family that is its package.

    `estimate(input, context)` gives the seconds that a run with this input will take; None: a few at most. `asks` are
    the roles whose LLM it asks, `calls(input, context)` how often; None: once.
    """

    def register(function: F) -> F:
        hints = get_type_hints(function)
        name, family = function.__name__, function.__module__.split(".")[-2]
        if name in _tools:
            raise ValueError(f"there are two tools called {name}")
        _tools[name] = Tool(name, family, version, function, hints["input"], hints["return"], estimate, asks, calls)
        return function

    return register


def tools() -> dict[str, Tool]:
    """Every tool by name; imports the families on first use."""
    _import_families()
    return dict(sorted(_tools.items()))


@cache
def _import_families() -> None:
    for family in FAMILIES:
        package = import_module(f"tools.{family}")
        for module in iter_modules(package.__path__):
            import_module(f"tools.{family}.{module.name}")


def get_tool(name: str) -> Tool:
    """The tool called `name`; UserError listing the names when there is none."""
    menu = tools()
    if name not in menu:
        near = get_close_matches(name, menu, 1)
        which = f"did you mean {near[0]}?" if near else f"name one of {', '.join(menu)}."
        raise UserError(f"There is no tool {name!r}: {which}")
    return menu[name]
