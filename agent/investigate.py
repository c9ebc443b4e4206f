"""One question, from the asking to the conclusion: the graph run on a thread, told as events."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from agent.events import Event
from agent.limits import Limits

if TYPE_CHECKING:
    from agent.session import Session


async def investigate(
    session: "Session", question: str | None, thread: str, limits: Limits, resume: Any = None
) -> AsyncIterator[Event]:
    """Investigates `question` on `thread`, new or known; None goes on with what the thread was interrupted in.

    `resume` answers an `ApprovalNeeded`: True allows the tool. Whoever stops listening stops the run; it goes on from
    the last finished step. UserError when the thread is unknown, of another subject, or of another version.
    """
    raise NotImplementedError
    yield
