"""Computing without standing in anyone's way: in a thread, one computation at a time on the device."""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_device = threading.Lock()


async def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function`'s result; it has the device to itself while it runs, and the event loop goes on meanwhile."""

    def locked() -> T:
        with _device:
            return function(*args, **kwargs)

    return await asyncio.to_thread(locked)
