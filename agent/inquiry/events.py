"""What happens in an investigation, as it happens: frozen events for whoever shows or records it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from store.types import Claim

Step = Literal["frame", "observe", "hypothesise", "predict", "test", "judge", "refine", "conclude"]


class Event(BaseModel):
    """Base of all events: frozen, an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StepBegan(Event):
    """A node of the graph began; `round` counts from 1."""

    step: Step
    round: int


class TextDelta(Event):
    """Words of the LLM as they stream; untrusted."""

    text: str


class HypothesisStated(Event):
    """A hypothesis is in the ledger under `id`; a dull one explains by frequency, position or token identity."""

    id: str
    claim: str
    dull: bool


class PredictionRegistered(Event):
    """A prediction is in the ledger under `id`, before its test runs; `sentence` says it in words."""

    id: str
    hypothesis: str
    sentence: str


class ToolBegan(Event):
    """A tool starts; `why` is the LLM's reason, or what the prediction says."""

    tool: str
    why: str
    input: dict[str, Any]


class ToolEnded(Event):
    """The experiment `experiment` is in the ledger. `output` is None for a failed run, whose reason is `verdict`."""

    tool: str
    experiment: str
    ok: bool
    verdict: str
    seconds: float
    output: dict[str, Any] | None


class Judged(Event):
    """What code made of a prediction; `held` is None when its test failed or gave no such number."""

    prediction: str
    hypothesis: str
    held: bool | None
    sentence: str


class ApprovalNeeded(Event):
    """The run waits: answer with `investigate(..., question=None, resume=True)` to allow the tool, False to refuse."""

    tool: str
    input: dict[str, Any]
    estimate: str


class Spent(Event):
    """What the investigation has used up so far; `usd` is None while a price is unknown."""

    round: int
    tool_calls: int
    tokens: int
    usd: float | None
    seconds: float


class Concluded(Event):
    """The end. `reason` is "concluded", "untested", or the name of the limit that ended it."""

    thread: str
    reason: str
    claims: list[Claim]
