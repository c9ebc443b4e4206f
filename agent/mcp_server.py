"""The menu as a server of the Model Context Protocol (modelcontextprotocol.io), over stdio or HTTP on loopback."""

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import mcp_types as types
import uvicorn
from mcp import MCPError, stdio_server
from mcp.server import Server, ServerRequestContext

from agent.brief import Brief, brief
from agent.surfaces import Menu
from store.errors import UserError
from tools.workbench.registry import Tool, tools

LOOPBACK, PATH = "127.0.0.1", "/mcp"
BEAT_S = 1.0  # between progress notifications
INSTRUCTIONS = (
    "Measures what goes on inside a language model. Every call is an experiment in a ledger; its result is a short "
    "verdict with the key numbers and the id of its row, and `show` gives the whole row."
)
SHOW = types.Tool(
    name="show",
    description="Gives a row of the ledger in full, by its id or the first digits of it: a tool's whole output, say.",
    input_schema={
        "type": "object",
        "properties": {"id": {"type": "string", "description": "id of a row, or at least its first 4 digits"}},
        "required": ["id"],
        "additionalProperties": False,
    },
    annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
)


def mcp_server(menu: Menu) -> Server[Any]:
    """A server of every tool and `show`; long calls report progress in seconds, and a cancelled call stops."""

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[*map(_described, tools().values()), SHOW])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name not in (SHOW.name, *tools()):
            names = ", ".join((*tools(), SHOW.name))
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name!r}: name one of {names}.")
        try:
            if params.name == SHOW.name:
                return _shown(menu, params.arguments or {})
            return await _called(menu, context, params.name, params.arguments or {})
        except UserError as error:
            return _failure(str(error))

    return Server("glossator", instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


Context = ServerRequestContext[Any, Any]


async def serve_stdio(menu: Menu) -> None:
    """Serves one client over stdin and stdout until it leaves; what anything else prints goes to stderr."""
    async with stdio_server() as streams:
        server = mcp_server(menu)
        await server.run(*streams, server.create_initialization_options())


async def serve_http(menu: Menu, port: int, announce: Callable[[str], None]) -> None:
    """Serves on loopback until interrupted, and gives `announce` the URL first. `port` 0: a free one.

    UserError when the port is taken.
    """
    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise UserError(f"Port {port} of {LOOPBACK} cannot be had ({error.strerror}): name another --port.") from None
    with listening:
        app = mcp_server(menu).streamable_http_app(host=LOOPBACK, streamable_http_path=PATH)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        announce(f"http://{LOOPBACK}:{listening.getsockname()[1]}{PATH}")
        await uvicorn.Server(config).serve(sockets=[listening])


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.doc,
        input_schema=tool.input.model_json_schema(),
        output_schema=Brief.model_json_schema(),
        annotations=types.ToolAnnotations(destructive_hint=False, open_world_hint=tool.is_async),
        _meta={"family": tool.family, "version": tool.version, "output": tool.output.model_json_schema()},
    )


async def _called(menu: Menu, context: Context, name: str, input: dict[str, Any]) -> types.CallToolResult:
    total = await menu.estimate(name, input)
    beating = asyncio.create_task(_beat(context, name, total))
    try:
        experiment = await menu.call(name, input)
    finally:
        beating.cancel()
    if experiment.error:
        return _failure(experiment.error)
    found = brief(experiment)
    return types.CallToolResult(
        content=[types.TextContent(text=found.model_dump_json())], structured_content=found.model_dump(mode="json")
    )


async def _beat(context: Context, name: str, total: float | None) -> None:
    """Seconds gone, of the tool's own estimate if it has one, until cancelled."""
    started = monotonic()
    while True:
        seconds = monotonic() - started
        await context.session.report_progress(seconds, total, f"{name}, {seconds:.0f} s")
        await asyncio.sleep(BEAT_S)


def _shown(menu: Menu, arguments: dict[str, Any]) -> types.CallToolResult:
    match arguments:
        case {"id": str(id)} if len(arguments) == 1:
            fact = menu.session.ledger.resolve(id)
        case _:
            raise UserError("show takes one argument, id: the id of a row, or at least its first 4 digits.")
    row = {"id": fact.id, "table": fact.table, **fact.model_dump(mode="json")}
    return types.CallToolResult(content=[types.TextContent(text=fact.model_dump_json())], structured_content=row)


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=sentence)], is_error=True)
