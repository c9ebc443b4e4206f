"""A scripted investigation: the events of a small one, told without a graph, an LLM or a model."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from agent.inquiry.events import (
    ApprovalNeeded,
    Concluded,
    Event,
    HypothesisStated,
    Judged,
    PredictionRegistered,
    Spent,
    StepBegan,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from store.types import Claim

H1, H2, P1, E1, E2 = (f"{digit * 4}{'0' * 20}" for digit in "abcde")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u202c\x1b[999;999Hend"
EXAMPLE = {
    "document": 3, "window": 3, "start": 9, "unit": "dictionary units",
    "tokens": [" the", " river", " bank", " was", " green", "\x1b[31m", " and", " wide"],
    "activations": [0.0, 0.4, 5.0, 0.0, 2.6, 0.0, 0.0, 0.0],
}  # fmt: skip
EXAMPLES = {
    "latent": "world/planted/6", "count": 40, "density": 0.0021, "max": 5.0, "top": [EXAMPLE], "random": [],
    "histogram": [{"low": 0.0, "high": 2.0, "count": 31}, {"low": 2.0, "high": 5.0, "count": 9}],
}  # fmt: skip
DOSES = {
    "metric": "logit difference",
    "doses": [
        {"strength": x, "cost": 0.1, "effect": {"value": y, "effect": y, "low": y - 0.3, "high": y + 0.3}}
        for x, y in ((1.0, -0.3), (2.0, -0.8), (4.0, -1.5), (8.0, -2.1))
    ],
    "controls": {
        "no_edit": {"value": 1.0, "effect": 0.0, "low": 0.0, "high": 0.0},
        "random_direction": [{"strength": x, "effect": {"value": 0.1, "effect": 0.1}} for x in (1.0, 4.0, 8.0)],
        "other": "latent 7",
    },
    "promoted": [{"token": " bank", "id": 1, "effect": 2.4}, {"token": " shore", "id": 2, "effect": -0.7}],
}
ANSWER = "Latent 6 fires on “bank”, and the river before it seems to matter.\nTwo accounts compete.\n"

OBSERVED: Sequence[Event] = (
    StepBegan(step="observe", round=1),
    *(TextDelta(text=word + " ") for word in ANSWER.split(" ")),
    ToolBegan(tool="top_examples", why="to see what it fires on", input={"latent": 6, "top": 3}),
    ToolEnded(tool="top_examples", experiment=E1, ok=True, seconds=0.41, output=EXAMPLES,
              verdict="fires on 0.21% of tokens; strongest: the river <<bank>>"),
    Spent(round=1, tool_calls=1, tokens=1234, usd=0.0012, seconds=3.0),
)  # fmt: skip
TESTED: Sequence[Event] = (
    StepBegan(step="hypothesise", round=1),
    HypothesisStated(id=H1, claim="It fires on “bank” after “river”.", dull=False),
    HypothesisStated(id=H2, claim="It fires on rare tokens.", dull=True),
    PredictionRegistered(id=P1, hypothesis=H1, sentence="minimal_pairs difference > 2"),
    ToolBegan(tool="dose_response", why="to see what it writes", input={"latent": 6, "strengths": [-8, -4, 0, 4, 8]}),
    ToolEnded(tool="dose_response", experiment=E2, ok=True, seconds=12.3, output=DOSES,
              verdict="moves logit difference by -2.1 [-2.5, -1.7]; random direction -0.1: clear of its controls"),
    Judged(prediction=P1, hypothesis=H1, held=True, sentence="H1 predicts difference > 2: measured 4.9, held"),
    Judged(prediction=P1, hypothesis=H2, held=False, sentence="H2 predicts difference < 1: measured 4.9, FAILED"),
    Spent(round=2, tool_calls=2, tokens=23456, usd=0.0234, seconds=75.0),
    Concluded(thread="t", reason="concluded", claims=[
        Claim(sentence="Latent 6 reads “bank” where a river is near.", evidence=(E1, E2), stance=None),
        Claim(sentence="It may serve place names.", conjecture=True),
    ]),
)  # fmt: skip
APPROVAL = ApprovalNeeded(tool="dose_response", input={"latent": 6}, estimate="about 20 min, above the limit of 5 min")


class Script:
    """An `investigate` that tells `events`, pauses before the event numbered `pause`, and keeps what it was asked."""

    def __init__(self, *events: Event, pause: int | None = None) -> None:
        self.events = events
        self.pause = pause
        self.paused = asyncio.Event()
        self.asked: list[tuple[str | None, str, Any]] = []

    async def __call__(
        self, session: Any, question: str | None, thread: str, limits: Any, resume: Any = None
    ) -> AsyncGenerator[Event, None]:
        self.asked.append((question, thread, resume))
        for number, event in enumerate(self.events):
            if number == self.pause and question is not None:
                self.paused.set()
                await asyncio.sleep(3600)
            await asyncio.sleep(0)
            yield event
