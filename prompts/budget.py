"""A limit on dollars, calls, hours and tokens, kept by reserving before each call and settling after it."""

import time

from prompts.errors import BudgetSpent
from store.errors import UserError


class Budget:
    """What a run may spend and has spent. Replies from the cache cost nothing.

    `usd` is the sum of known prices (dollars), `calls` counts requests sent, `unpriced` those whose price is unknown,
    `tokens` those of prompts and replies.
    """

    def __init__(
        self,
        max_usd: float | None = None,
        max_calls: int | None = None,
        max_hours: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.max_usd = max_usd
        self.max_calls = max_calls
        self.max_hours = max_hours
        self.max_tokens = max_tokens
        self.tokens = 0
        self.usd = 0.0
        self.calls = 0
        self.unpriced = 0
        self._reserved = 0.0
        self._started = time.monotonic()

    @property
    def hours(self) -> float:
        return (time.monotonic() - self._started) / 3600

    def reserve(self, usd: float | None, model: str) -> None:
        """Books one call that costs at most `usd` dollars; BudgetSpent when it does not fit any more."""
        if self.max_hours is not None and self.hours >= self.max_hours:
            raise BudgetSpent(
                "hours", f"The time limit of {self.max_hours:g} hours is reached; run again with more to go on."
            )
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise BudgetSpent("calls", f"The limit of {self.max_calls} calls is reached; run again with more to go on.")
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            raise BudgetSpent(
                "tokens", f"The limit of {self.max_tokens:,} tokens is reached; run again with more to go on."
            )
        self.check_price(usd, model)
        if self.max_usd is not None and self.usd + self._reserved + (usd or 0.0) > self.max_usd:
            raise BudgetSpent(
                "dollars",
                f"The budget of {self.max_usd:g} USD is spent ({self.usd:.4f} USD so far); "
                "run again with more to go on.",
            )
        self.calls += 1
        self._reserved += usd or 0.0

    def check_price(self, usd: float | None, model: str) -> None:
        """UserError when dollars are limited and what a call to `model` costs is unknown (`usd` is None)."""
        if self.max_usd is not None and usd is None:
            raise UserError(
                f"The price of {model} is unknown, so a limit in dollars cannot be kept; "
                "limit calls or hours, or set the endpoint's prices."
            )

    def settle(self, reserved: float | None, usd: float | None, tokens: int) -> None:
        """Replaces a reservation by what the call did cost (None: unknown) and counts its tokens."""
        self.tokens += tokens
        self._reserved -= reserved or 0.0
        if usd is None:
            self.unpriced += 1
        else:
            self.usd += usd

    def release(self, reserved: float | None) -> None:
        """Gives back the dollars of a call that got no reply; the attempt still counts as a call."""
        self._reserved -= reserved or 0.0
