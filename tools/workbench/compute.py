"""Computing without standing in anyone's way: in a thread, one computation at a time on the device."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_device = threading.Lock()
_given_up: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)


class GivenUp(Exception):
    """Nobody waits for this computation any more."""


async def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function`'s result; it has the device to itself while it runs, and the event loop goes on meanwhile.

    When the caller is cancelled, the computation ends at its next forward pass and lets go of the device.
    """
    given_up = threading.Event()

    def locked() -> T:
        with _device:
            _given_up.set(given_up)
            go_on()
            return function(*args, **kwargs)

    try:
        return await asyncio.to_thread(locked)
    except asyncio.CancelledError:
        given_up.set()
        raise


def go_on() -> None:
    """Called at every forward pass: raises GivenUp inside a computation whose caller was cancelled."""
    event = _given_up.get()
    if event is not None and event.is_set():
        raise GivenUp
