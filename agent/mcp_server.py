"""The menu as a server of the Model Context Protocol (modelcontextprotocol.io), over stdio or HTTP on loopback."""

import asyncio
import json
import socket
from time import monotonic
from typing import Any

import mcp_types as types
import uvicorn
from mcp import MCPError, stdio_server
from mcp.server import Server, ServerRequestContext

from agent.inquiry.brief import brief
from agent.settings import Settings
from agent.surfaces import Menu, open_menu
from store.errors import UserError
from tools.workbench.registry import Tool, tools

LOOPBACK, PATH = "127.0.0.1", "/mcp"
BEAT_S = 1.0  # between progress notifications
INSTRUCTIONS = (
    "Measures what goes on inside a language model. Every call is an experiment in a ledger; its result is a short "
    "verdict with the key numbers and the id of its row, and `show` gives the whole row."
)
BRIEF = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "description": "what was found, in a sentence written by code"},
        "numbers": {"type": "object", "additionalProperties": {"type": "number"}},
        "id": {"type": "string", "description": "of the experiment in the ledger"},
        "next": {"type": "array", "items": {"type": "string"}, "description": "tools that may follow"},
    },
    "required": ["verdict", "numbers", "id", "next"],
}
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
Context = ServerRequestContext[Any, Any]


def mcp_server(menu: Menu) -> Server[Any]:
    """A server of every tool and `show`; long calls report progress in seconds, and a cancelled call stops."""

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        menu = await asyncio.to_thread(tools)
        return types.ListToolsResult(tools=[*map(_described, menu.values()), SHOW])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        known = (*await asyncio.to_thread(tools), SHOW.name)
        if params.name not in known:
            names = ", ".join(known)
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name!r}: name one of {names}.")
        try:
            if params.name == SHOW.name:
                return await asyncio.to_thread(_shown, menu, params.arguments or {})
            return await _called(menu, context, params.name, params.arguments or {})
        except UserError as error:
            return _failure(str(error))

    return Server("glossator", instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio(settings: Settings) -> None:
    """Serves one client over stdin and stdout until it leaves; what anything else prints goes to stderr."""
    async with stdio_server() as (reader, writer), open_menu(settings) as menu:  # in this order: each redirects stdout
        server = mcp_server(menu)
        await server.run(reader, writer, server.create_initialization_options())


def listen(port: int) -> socket.socket:
    """A socket on loopback; port 0 takes a free one. UserError when the port is taken."""
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise UserError(f"Port {port} of {LOOPBACK} cannot be had ({error.strerror}): name another --port.") from None


def url(listening: socket.socket) -> str:
    """Where a client finds what serves on `listening`."""
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}{PATH}"


async def serve_http(settings: Settings, listening: socket.socket) -> None:
    """Serves any number of clients until interrupted; requests that name another host than loopback are refused."""
    async with open_menu(settings) as menu:
        app = mcp_server(menu).streamable_http_app(host=LOOPBACK, streamable_http_path=PATH)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[listening])


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.doc,
        input_schema=tool.input.model_json_schema(),
        output_schema=BRIEF,
        annotations=types.ToolAnnotations(destructive_hint=False, open_world_hint=tool.is_async),
        _meta={"family": tool.family, "version": tool.version, "output": tool.output.model_json_schema()},
    )


async def _called(menu: Menu, context: Context, name: str, input: dict[str, Any]) -> types.CallToolResult:
    total: float | None = None
    doing = "opening the model"

    async def beat() -> None:
        """Says how many seconds have gone, of the tool's own estimate if it has one."""
        started = monotonic()
        while True:
            seconds = monotonic() - started
            await context.session.report_progress(seconds, total, f"{doing}, {seconds:.0f} s")
            await asyncio.sleep(BEAT_S)

    beating = asyncio.create_task(beat())
    try:
        total, doing = await menu.estimate(name, input), name
        experiment = await menu.call(name, input)
    finally:
        beating.cancel()
    return _failure(experiment.error) if experiment.error else _success(brief(experiment)._asdict())


def _shown(menu: Menu, arguments: dict[str, Any]) -> types.CallToolResult:
    match arguments:
        case {"id": str(id)} if len(arguments) == 1:
            fact = menu.session.ledger.resolve(id)
        case _:
            raise UserError("show takes one argument, id: the id of a row, or at least its first 4 digits.")
    return _success({"id": fact.id, "table": fact.table, **fact.model_dump(mode="json")})


def _success(found: dict[str, Any]) -> types.CallToolResult:
    text = json.dumps(found, ensure_ascii=False)
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=found)


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=sentence)], is_error=True)
