"""What goes wrong with an LLM: the endpoint (stops the run) or one reply (fails one item)."""

from store.errors import UserError


class LLMError(UserError):
    """The endpoint is down, refuses, or answers something that is not a chat completion."""


class BudgetSpent(UserError):
    """The next call would pass the limit on dollars, calls, hours or tokens; `limit` is that word."""

    def __init__(self, limit: str, sentence: str) -> None:
        super().__init__(sentence)
        self.limit = limit


class NoAnswer(Exception):
    """One request got no usable answer: a failure of one item, never of the run. The text says why."""

    call_id: str | None = None  # the reply's row in the ledger, where one came


class Refused(NoAnswer):
    """The model or its provider's filter declined to answer."""


class Unparseable(NoAnswer):
    """The reply is recorded, and it is empty or does not fit the schema."""


class TooLong(NoAnswer):
    """The rendered prompt does not fit the model's context; nothing was paid."""
