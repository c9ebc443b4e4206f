"""The one way a tool is run: validate, time, call, append the experiment to the ledger."""

import json
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from store.errors import UserError
from store.types import Experiment, experiment_key
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.registry import Tool, ToolError, ToolInput, get_tool

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST_FAULTS = 3  # of an input, told at once


async def run(
    name: str, input: dict[str, Any] | ToolInput, context: Context, prediction: str | None = None
) -> Experiment:
    """Runs tool `name` and returns its experiment, already in the ledger.

    A `ToolError` becomes the experiment's `error`. Bad input raises UserError before anything runs; any other
    exception is a bug, or the end of the surroundings (an endpoint, the disk), and propagates.
    """
    tool = get_tool(name)
    checked = validate(tool, input)
    start = perf_counter()
    output: dict[str, Any] | None = None
    error: str | None = None
    try:
        output = (await _call(tool, checked, context)).model_dump(mode="json")
    except ToolError as failure:
        error = str(failure)
    experiment = Experiment(
        tool=tool.name,
        version=tool.version,
        subject=context.fingerprint,
        input=checked.model_dump(mode="json"),
        seed=context.seed,
        latent=_latent(checked, context),
        output=output,
        error=error,
        controls=(output or {}).get("controls") or {},
        seconds=perf_counter() - start,
        device=str(context.subject.device),
        prediction=prediction,
        adapter=context.subject.adapter.name if context.subject.adapter else None,
        opening=context.opening,
    )
    await context.ledger.record(experiment)
    return experiment


async def estimate(name: str, input: dict[str, Any] | ToolInput, context: Context) -> float | None:
    """Seconds that the run will take, as the tool says, which may first try how fast the device is; None when it does
    not say. UserError when the input does not fit."""
    tool = get_tool(name)
    return None if tool.estimate is None else await alone(tool.estimate, validate(tool, input), context)


def key_of(name: str, input: dict[str, Any] | ToolInput, context: Context) -> str:
    """The key that the experiment of this run will have. UserError when the input does not fit."""
    tool = get_tool(name)
    checked = validate(tool, input).model_dump(mode="json")
    return experiment_key(tool.name, tool.version, context.fingerprint, checked, context.seed)


def validate(tool: Tool, input: dict[str, Any] | ToolInput) -> ToolInput:
    """`input` as the tool's own type; UserError, in one sentence, when it does not fit."""
    if isinstance(input, tool.input):
        return input
    raw = input.model_dump() if isinstance(input, ToolInput) else input
    try:
        checked = tool.input.model_validate(raw)
    except ValidationError as error:
        faults = _faults(error, list(tool.input.model_fields))
        raise UserError(f"{tool.name} cannot take that input: {faults}.") from None
    try:
        json.dumps(checked.model_dump(mode="json"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{tool.name} cannot take half a character (a lone surrogate): correct the text.") from None
    return checked


def _what(fault: "ErrorDetails", fields: Sequence[str]) -> str:
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        return f"there is no such field, only {', '.join(fields)}"
    if fault["type"] == "string_too_short" and not fault["input"]:
        return "it is empty, give at least one character"
    if fault["type"] in ("tuple_type", "list_type"):
        return "it is no list, write [...]"
    return fault["msg"].removeprefix("Value error, ")


def _faults(error: ValidationError, fields: Sequence[str]) -> str:
    """What is wrong and where; not that a list is too short because of what is wrong in it."""
    found = error.errors()
    deeper = {e["loc"][:n] for e in found for n in range(len(e["loc"]))}
    told = [e for e in found if not (e["type"] == "too_short" and e["loc"] in deeper)]
    said = [(_path(e["loc"]) or "input", _what(e, fields)) for e in told]
    sentences = list(dict.fromkeys(f"{where}: {what}" for where, what in said))
    more = f"; and {len(sentences) - MOST_FAULTS:,} more" if len(sentences) > MOST_FAULTS else ""
    return "; ".join(sentences[:MOST_FAULTS]) + more


def _path(location: tuple[int | str, ...]) -> str:
    """A field by its dotted path, without the names that pydantic gives to the members of a union."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part.isidentifier())


async def _call(tool: Tool, input: ToolInput, context: Context) -> Any:
    if tool.is_async:
        return await tool.function(input, context)
    return await alone(tool.function, input, context)


def _latent(input: ToolInput, context: Context) -> str | None:
    index = getattr(input, "latent", None)
    return str(context.subject.latent(index)) if isinstance(index, int) else None
