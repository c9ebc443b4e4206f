"""Where a long search stands, kept beside the ledger: the same call goes on there after its process was killed.

How to use it: `Unfinished(context, tool, input)`; `begun()` is the state that was kept last (None: the beginning),
`note(state)` keeps one, at most every two seconds, `done()` forgets it. A state is JSON, belongs to one input, seed,
subject and version, and must lead to the output that an uninterrupted run has.
"""

import json
from time import monotonic
from typing import Any

from pydantic import BaseModel

from store.disk import appearing, make_folder
from store.types import experiment_key
from tools.workbench.context import Context
from tools.workbench.registry import get_tool

FOLDER = "unfinished"
EVERY = 2.0  # seconds


class Unfinished:
    """One run's state on disk."""

    def __init__(self, context: Context, tool: str, input: BaseModel) -> None:
        asked = input.model_dump(mode="json")
        key = experiment_key(tool, get_tool(tool).version, context.fingerprint, asked, context.seed)
        self.path = context.ledger.store.path.parent / FOLDER / f"{key}.json"
        self._last = monotonic()

    def begun(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        return state

    def note(self, state: dict[str, Any]) -> None:
        if monotonic() - self._last < EVERY:
            return
        make_folder(self.path.parent)
        with appearing(self.path) as part:
            part.write_text(json.dumps(state))
        self._last = monotonic()

    def done(self) -> None:
        self.path.unlink(missing_ok=True)
