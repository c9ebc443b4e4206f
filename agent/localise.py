"""A behaviour localised by code alone: which places carry it, which heads and connections, and what those heads are.

    contrast_pairs          prompts that differ in the supposed cause alone, and what the model says after each
    activation_patching     the residual stream, layer x position, exactly
    attribution_patching    every head estimated at once, the strongest verified exactly
    edge_attribution        the connections between them, and how much of the behaviour they suffice for
    circuit_faithfulness    the same of the heads that were found
    head_profile            what kind of head each of them is

Every step is an experiment in the ledger. Killed and started again, it goes on: a step that is there is not run again.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.screen.console import late_meter, rated, say
from store.errors import UserError
from store.types import Experiment

if TYPE_CHECKING:
    from agent.session import Session
    from tools.workbench.context import Context

LEAST = 0.02  # of the gap: a head that moves less is not told
HEADS = 20  # of a circuit at most
FIRST = ("contrast_pairs", "activation_patching", "attribution_patching", "edge_attribution")
SITES = {"activation_patching": "resid_pre", "attribution_patching": "z"}
TOLD = 2.0  # seconds from which an estimate is said

Input = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A tool's run, or why there is none. earlier: whether it was in the ledger already."""

    tool: str
    experiment: Experiment | None
    earlier: bool = False
    missing: str = ""

    @property
    def output(self) -> dict[str, Any]:
        return (self.experiment.output if self.experiment else None) or {}

    @property
    def problem(self) -> str:
        """Why it gave nothing; "" when it gave something."""
        return self.missing or (self.experiment.error if self.experiment else None) or ""


@dataclass
class Localised:
    """The outcome of one `glossator localise`."""

    behaviour: str
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0

    def output(self, tool: str) -> dict[str, Any]:
        """What a step found; empty where it is missing."""
        return next((step.output for step in self.steps if step.tool == tool), {})


def localise(session: "Session", contrast: Input) -> Localised:
    """Runs the pipeline on pairs: `template` and `n`, or `pairs`. UserError when no pair can be used."""
    from tools.workbench.registry import get_tool
    from tools.workbench.run import validate

    validate(get_tool("contrast_pairs"), contrast)
    context = session.context(session.find_harvest())
    return asyncio.run(_localise(context, contrast))


async def _localise(context: "Context", contrast: Input) -> Localised:
    found = Localised(str(contrast.get("template") or "the given pairs"))
    began = time.monotonic()
    run = Runner(context)
    inputs = {tool: contrast | ({"site": SITES[tool]} if tool in SITES else {}) for tool in FIRST}
    await run.foretell(inputs, "the circuit that is found")
    for tool, input in inputs.items():
        found.steps.append(await run(tool, input))
        if tool == FIRST[0] and found.steps[0].problem:
            raise UserError(found.steps[0].problem)
    heads = heads_of(found.output("attribution_patching"))
    for tool, input in {
        "circuit_faithfulness": contrast | {"nodes": heads},
        "head_profile": {"heads": heads},
    }.items():
        found.steps.append(await run(tool, input) if heads else Step(tool, None, missing=NO_HEADS))
    found.seconds = time.monotonic() - began
    return found


NO_HEADS = f"no head was found that moves the metric by {LEAST:.0%} of the gap for sure"


def heads_of(attribution: dict[str, Any]) -> list[str]:
    """The verified heads, strongest first, whose interval excludes 0."""
    rows = [row for row in attribution.get("top", ()) if row["effect"] is not None and abs(row["effect"]) >= LEAST]
    sure = [row for row in rows if row["low"] is None or row["low"] > 0 or row["high"] < 0]
    return [f"L{row['layer']}H{row['index']}" for row in sure[:HEADS]]


class Runner:
    """Runs tools, but none whose equal run is in the ledger; tells how far it is, how fast, and the time left."""

    def __init__(self, context: "Context") -> None:
        self._context = context
        self._ids = context.ledger.experiment_keys()

    async def foretell(self, inputs: dict[str, Input], more: str) -> None:
        """Says how long these runs will take, those left out that are in the ledger, and what will follow."""
        from tools.workbench.run import estimate

        left = [(tool, input) for tool, input in inputs.items() if self._known(tool, input) is None]
        seconds = sum([await estimate(tool, input, self._context) or 0.0 for tool, input in left])
        if seconds > TOLD:
            say(f"About {seconds:,.0f} s, and {more}; interrupted, the same command goes on.")

    async def __call__(
        self, tool: str, input: Input, since: datetime | None = None, prediction: str | None = None
    ) -> Step:
        """The run; none earlier than `since` counts for it. prediction: the id of the one that it tests."""
        from tools.workbench.run import run

        id = self._known(tool, input)
        known = await asyncio.to_thread(self._context.ledger.get, Experiment, id) if id else None
        if known is not None and (since is None or known.created_at >= since):
            return Step(tool, known, earlier=True)
        with late_meter(tool) as advance:
            self._context.progress = rated(advance)
            return Step(tool, await run(tool, input, self._context, prediction))

    def _known(self, tool: str, input: Input) -> str | None:
        from tools.workbench.run import key_of

        return self._ids.get(key_of(tool, input, self._context))


def circuit(edges: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The verified edges, strongest first, without the random sample."""
    return [row for row in edges.get("top", ()) if not row["drawn"]]
