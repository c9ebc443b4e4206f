"""The threads of a ledger: what was asked on each, and whether it ended."""

from store.errors import UserError
from store.ledger import Ledger
from store.types import Conclusion, Investigation

SHOWN = 8  # threads that a message names


def threads(ledger: Ledger) -> dict[str, Investigation]:
    """Each thread with what was asked on it last, the latest first."""
    latest = {asked.thread: asked for asked in ledger.find(Investigation)}
    return dict(sorted(latest.items(), key=lambda item: item[1].created_at, reverse=True))


def resolve(ledger: Ledger, prefix: str) -> str:
    """The one thread whose name starts with `prefix`. UserError when there is none or more than one."""
    known = threads(ledger)
    found = [prefix] if prefix in known else [thread for thread in known if prefix and thread.startswith(prefix)]
    if len(found) > 1:
        raise UserError(f"More than one thread starts with {prefix!r}: {', '.join(found[:SHOWN])}.")
    if not found:
        have = f"the store has {', '.join(list(known)[:SHOWN])}" if known else "the store has none yet"
        raise UserError(f'There is no thread {prefix!r}: {have}; glossator ask "..." begins one.')
    return found[0]


def ending(ledger: Ledger, investigation: Investigation) -> Conclusion | None:
    """How an investigation ended; None while it has not."""
    found = ledger.find(Conclusion, investigation=investigation.id)
    return found[-1] if found else None
