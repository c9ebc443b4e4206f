"""The room that decides what to do next: command line, conversation, overnight batch, review; `open_session`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.notebook import open_session

__all__ = ["open_session"]


def __getattr__(name: str) -> Any:
    """`open_session` is imported when it is first asked for: the command line's help must not wait for torch."""
    if name == "open_session":
        from agent.notebook import open_session

        return open_session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
