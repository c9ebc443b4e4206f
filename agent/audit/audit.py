"""`glossator audit`: looks, suspicions, predictions registered before their tests, findings; by code or by the agent.

Every step is a row of the ledger. Killed and started again, it goes on: a run that is there is not made again.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.audit.findings import Outcome, claims, outcome
from agent.audit.leads import Lead, Output, suspected
from agent.audit.plan import CONFIRMED, FAMILIES, LEVEL, Family, looks
from agent.audit.record import Record
from agent.inquiry.auditing import QUESTION
from agent.inquiry.dossier import dossiers
from agent.inquiry.history import threads
from agent.screen.console import say
from agent.state import VERSION as STATE
from prompts.providers import Role
from store.ids import content_hash
from store.types import Comparison, Hypothesis

if TYPE_CHECKING:
    from agent.inquiry.limits import Limits
    from agent.session import Session

VERSION = 3  # of the portfolio
DULL = "that what sets it apart is chance, and on fresh prompts it does what its base does"


@dataclass(frozen=True)
class Audited:
    """What an audit came to. reason: "concluded", or the limit that ended it. compared: there was a base model. tokens:
    that each model read and wrote, about, or those of the LLM."""

    thread: str
    subject: str
    compared: bool
    outcome: Outcome
    reason: str
    tokens: int
    seconds: float


def audit(session: "Session", budget: int, families: Sequence[Family] = FAMILIES) -> Audited:
    """Audits the session's subject with a fixed portfolio. `budget` are tokens that each model reads and writes, about;
    `families` the kinds of tools that may be used."""
    return asyncio.run(_audit(session, budget, tuple(families)))


def affordable(found: dict[str, Output], families: Sequence[Family], tokens: int) -> list[Lead]:
    """The suspicions, each to be tested on as many prompts as leave room for all of them in `tokens`."""
    fewest, most = CONFIRMED
    for each in range(most, fewest, -1):
        leads = suspected(found, families, each)
        if sum(lead.tokens for lead in leads) <= tokens:
            return leads
    return suspected(found, families, fewest)


async def _audit(session: "Session", budget: int, families: tuple[Family, ...]) -> Audited:
    from tools.workbench.beside import has_base

    began = time.monotonic()
    context = session.context(session.find_harvest())
    key = content_hash([context.fingerprint, context.seed, budget, list(families), VERSION])
    record = Record.of(session, context, f"audit-{key[:8]}", {"tokens": budget, "families": list(families)})
    thread, compared, spent, found = record.investigation.thread, has_base(context), 0, {}
    every = looks(budget, families, compared)
    await record.run.foretell({look.tool: look.input for look in every}, "the tests of what they suggest")
    for look in every:
        step = await record.look(look.tool, look.input, look.why)
        spent += look.tokens
        if not step.problem:
            found[look.tool] = step.output
    leads = affordable(found, families, budget - spent)
    dull = await record.state(DULL, dull=True)
    reason = "concluded"
    for lead in leads:
        if spent + lead.tokens > budget:
            reason = "tokens"
            await record.state(lead.claim)
            continue
        spent += lead.tokens
        await _test(record, lead, dull, LEVEL / len(leads))
    (dossier,) = dossiers(session.ledger, thread)
    come_to = outcome(dossier)
    await record.conclude(reason, claims(come_to, dull, dossier.evidence))
    return Audited(thread, context.subject.name, compared, come_to, reason, spent, time.monotonic() - began)


async def by_agent(session: "Session", limits: "Limits") -> Audited:
    """The same question investigated by the agent's LLM; one that was interrupted goes on."""
    from agent.conversation.narrate import Narrator
    from agent.inquiry.events import Spent
    from agent.inquiry.investigate import investigate
    from tools.workbench.beside import has_base

    began = time.monotonic()
    context = session.context(session.find_harvest())
    llm = session.endpoint(Role.AGENT).model
    key = content_hash([context.fingerprint, context.seed, llm, limits.model_dump(mode="json"), STATE])
    thread = f"audit-{key[:8]}"
    known = dossiers(session.ledger, thread) if thread in threads(session.ledger) else []
    spent = 0
    if not known or known[-1].conclusion is None:
        narrator = Narrator()
        say(f"Thread {thread}; interrupted, the same command goes on with it.")
        async for event in investigate(session, None if known else QUESTION, thread, limits):
            for line in narrator.lines(event):
                say(line)
            spent = event.tokens if isinstance(event, Spent) else spent
    dossier = dossiers(session.ledger, thread)[-1]
    assert dossier.conclusion is not None, "an investigation that has ended has concluded"
    reason, seconds = dossier.conclusion.reason, time.monotonic() - began
    return Audited(thread, context.subject.name, has_base(context), outcome(dossier), reason, spent, seconds)


async def _test(record: Record, lead: Lead, dull: Hypothesis, level: float) -> None:
    """States the suspicion, registers what it and the dull rival predict, and only then runs its test."""
    from tools.workbench.registry import get_tool

    hypothesis = await record.state(lead.claim)
    input = lead.input | ({"level": level} if "level" in get_tool(lead.tool).input.model_fields else {})
    predictions = [
        await record.predict(hypothesis, lead.tool, input, each.measure, (each.comparison, each.threshold))
        for each in lead.expects
    ]
    first = lead.expects[0]
    rival = await record.predict(dull, lead.tool, input, first.measure, (Comparison.LESS, first.threshold))
    why = "; ".join(prediction.sentence for prediction in predictions)
    await record.test([*predictions, rival], why)
