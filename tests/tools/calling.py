"""Tools called as a session calls them."""

import asyncio
from typing import Any

from tools.workbench.context import Context
from tools.workbench.registry import get_tool
from tools.workbench.run import run, validate


def call(name: str, context: Context, **input: Any) -> dict[str, Any]:
    """The output of a run that must not fail."""
    experiment = asyncio.run(run(name, input, context))
    assert experiment.error is None, experiment.error
    assert experiment.output is not None
    return experiment.output


def refusal(name: str, context: Context, **input: Any) -> str:
    """The error of a run that must be refused."""
    experiment = asyncio.run(run(name, input, context))
    assert experiment.error is not None
    return experiment.error


def output_of(name: str, context: Context, **input: Any) -> Any:
    """The typed output of the tool itself, which is in no ledger."""
    tool = get_tool(name)
    output = tool.function(validate(tool, input), context)
    return asyncio.run(output) if tool.is_async else output


def answered_by(context: Context, llm: Any) -> None:
    """A fake in the LLM's place."""
    context.llm = llm
