"""`glossator chat`: the conversation, when a person sits at the terminal."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands import options as o
from agent.screen.console import say
from agent.settings import load
from store.errors import UserError

if TYPE_CHECKING:
    from agent.session import Session

NO_TERMINAL = 'A conversation needs a terminal: use glossator ask "QUESTION" here.'


def chat(
    thread: Annotated[str | None, typer.Option(help="Take up a thread; /threads lists them.")] = None,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    max_usd: o.MaxUsd = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Ask what a latent does, watch it being tested, and follow every claim to its evidence."""
    if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(NO_TERMINAL)
    settings = load(locals())
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # many terminals do not tell where the cursor is
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.output import create_output
    from rich.console import Console

    from agent.chat import Chat
    from agent.inquiry.history import resolve
    from agent.inquiry.limits import limits_of
    from agent.session import open_session

    console = Console(file=sys.stdout, highlight=False)
    with create_app_session(output=create_output(sys.stdout)), open_session(settings) as session:
        known = resolve(session.ledger, thread) if thread else secrets.token_hex(4)
        limits = limits_of(settings, interactive=True)
        asyncio.run(Chat(session, known, limits, console, lambda: prepare(session)).talk())


def prepare(session: "Session") -> None:
    """Loads the subject, makes a harvest where there is none and starts the LLM: what a question cannot do without."""
    if "subject" not in vars(session):
        say(f"Opening {session.settings.model}.")
    with _interruptible():
        session.harvest()
        session.ensure_llm()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end what would otherwise hold up the event loop that listens for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise UserError("Interrupted; what was finished is kept, and the next question goes on from there.") from None
    finally:
        signal.signal(signal.SIGINT, before)
