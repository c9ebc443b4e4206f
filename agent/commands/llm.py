"""`glossator llm`: the embedded LLM in the foreground."""

from agent.commands import options as o
from agent.screen.console import emit, say


def llm(json: o.Json = False) -> None:
    """Serve the embedded LLM in the foreground and print its base URL."""
    from agent.session import use_cache
    from agent.settings import load
    from prompts.local import serve_in_foreground

    use_cache(load())

    def announce(base_url: str) -> None:
        emit({"base_url": base_url}, json, lambda c: c.print(base_url, soft_wrap=True, markup=False))
        say("Serving; Ctrl-C ends it.")

    serve_in_foreground(announce)
