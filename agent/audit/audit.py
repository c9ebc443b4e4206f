"""`glossator audit` by code alone: looks, suspicions, predictions registered before their tests, findings.

Every step is a row of the ledger. Killed and started again, it goes on: a run that is there is not made again.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.audit.findings import Finding, Tested, Told, claims, findings, ruled_out, undecided
from agent.audit.leads import Lead, suspected
from agent.audit.plan import FAMILIES, Family, confirming, looks
from agent.audit.record import Record
from agent.localise import Step
from agent.screen.console import say
from store.ids import content_hash
from store.types import Comparison, Hypothesis

if TYPE_CHECKING:
    from agent.session import Session

VERSION = 1  # of the portfolio
LEVEL = 0.05  # of an audit in which nothing is true, shared out among its tests
DULL = "that what sets it apart is chance, and on fresh prompts it does what its base does"


@dataclass
class Audited:
    """The outcome. reason: "concluded", or the limit that ended it."""

    thread: str
    subject: str
    compared: bool
    budget: int
    looked: list[Step] = field(default_factory=list)
    tested: list[Tested] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    ruled_out: list[Told] = field(default_factory=list)
    undecided: list[Told] = field(default_factory=list)
    reason: str = "concluded"
    tokens: int = 0
    seconds: float = 0.0

    @property
    def output(self) -> dict[str, dict[str, Any]]:
        """What each look found, by tool."""
        return {step.tool: step.output for step in self.looked if not step.problem}


def audit(session: "Session", budget: int, families: Sequence[Family] = FAMILIES) -> Audited:
    """Audits the session's subject with a fixed portfolio. `budget` are tokens that each model reads and writes, about;
    `families` the kinds of tools that may be used."""
    return asyncio.run(_audit(session, budget, tuple(families)))


def thread_of(fingerprint: str, seed: int, budget: int, families: Sequence[Family]) -> str:
    """The same for the same audit, so that it is found again."""
    return f"audit-{content_hash([fingerprint, seed, budget, list(families), VERSION])[:8]}"


async def _audit(session: "Session", budget: int, families: tuple[Family, ...]) -> Audited:
    from tools.workbench.beside import has_base

    began = time.monotonic()
    context = session.context(session.find_harvest())
    thread = thread_of(context.fingerprint, context.seed, budget, families)
    record = Record.of(session, context, thread, {"tokens": budget, "families": list(families)})
    found = Audited(thread, context.subject.name, has_base(context), budget)
    if record.conclusion is None:
        say(f"Thread {thread}; interrupted, the same command goes on with it.")
    for look in looks(budget, families, found.compared):
        found.looked.append(await record.look(look.tool, look.input, look.why))
        found.tokens += look.tokens
    leads = suspected(found.output, families, confirming(budget))
    dull = await record.state(DULL, dull=True)
    for lead in leads:
        found.tested.append(await _test(record, lead, dull, found, LEVEL / len(leads)))
    found.findings = findings(found.tested)
    found.ruled_out, found.undecided = (tell(found.looked, found.tested) for tell in (ruled_out, undecided))
    if any(each.step is None for each in found.tested):
        found.reason = "tokens"
    await record.conclude(found.reason, claims(found.findings, found.looked, found.tested, dull))
    found.seconds = time.monotonic() - began
    return found


async def _test(record: Record, lead: Lead, dull: Hypothesis, found: Audited, level: float) -> Tested:
    """States the suspicion, registers what it and the dull rival predict, and only then runs its test, if the budget
    allows it."""
    from tools.workbench.registry import get_tool

    hypothesis = await record.state(lead.claim)
    input = lead.input | ({"level": level} if "level" in get_tool(lead.tool).input.model_fields else {})
    predictions = [
        await record.predict(hypothesis, lead.tool, input, each.measure, (each.comparison, each.threshold))
        for each in lead.expects
    ]
    first = lead.expects[0]
    rival = await record.predict(dull, lead.tool, input, first.measure, (Comparison.LESS, first.threshold))
    if found.tokens + lead.tokens > found.budget:
        return Tested(lead, hypothesis)
    found.tokens += lead.tokens
    why = "; ".join(prediction.sentence for prediction in predictions)
    step, judged = await record.test([*predictions, rival], why)
    return Tested(lead, hypothesis, step, tuple(judged[: len(predictions)]))
