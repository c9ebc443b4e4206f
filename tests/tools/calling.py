"""Tools called as a session calls them."""

import asyncio
from typing import Any

from tools.workbench.context import Context
from tools.workbench.run import run


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
