"""`glossator mcp`: the tools for other programs' agents."""

import asyncio
from typing import Annotated

import typer

from agent.commands import options as o
from agent.screen.console import emit, say
from agent.settings import load


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP on loopback instead of stdio.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --http; 0 takes a free one.")] = 8808,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    max_usd: o.MaxUsd = None,
    max_calls: o.MaxCalls = None,
    max_hours: o.MaxHours = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: Annotated[bool, typer.Option("--json", help="Print the URL of --http as JSON; stdio speaks JSON.")] = False,
) -> None:
    """Serve the tools over the Model Context Protocol; stdout carries the protocol and nothing else."""
    settings = load(locals())
    from agent.mcp_server import listen, serve_http, serve_stdio, url

    if not http:
        asyncio.run(serve_stdio(settings))
        return
    with listen(port) as listening:
        where = url(listening)
        emit({"url": where}, json, lambda console: console.print(where, soft_wrap=True, markup=False))
        say("Serving; Ctrl-C ends it.")
        asyncio.run(serve_http(settings, listening))
