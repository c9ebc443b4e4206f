"""The commands of the conversation: /help, /evidence and the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table
from rich.text import Text

from agent.completion import Known
from store.errors import UserError

if TYPE_CHECKING:
    from agent.chat import Chat


class Command(NamedTuple):
    """`run` takes the conversation and what was typed after the name; `takes` says what that is."""

    run: Callable[["Chat", str], Awaitable[None]]
    takes: str
    help: str
