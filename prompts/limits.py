"""A gate before every request: so many a minute, and none while the endpoint asks for a pause."""

import asyncio
import time


class Gate:
    """Lets requests through evenly spaced, `per_minute` of them (None: no limit)."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0  # monotonic seconds at which the next request may start

    async def passage(self) -> None:
        """Returns when the caller may send one request."""
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._interval
        if start > now:
            await asyncio.sleep(start - now)

    def pause(self, seconds: float) -> None:
        """Holds back later requests for `seconds`: what an endpoint asks of one caller it asks of all."""
        self._next = max(self._next, time.monotonic() + seconds)
