"""One question, from the asking to the conclusion: the graph run on a thread, told as events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from agent.graph import build
from agent.inquiry.events import ApprovalNeeded, Concluded, Event
from agent.inquiry.history import threads
from agent.inquiry.investigable import check_question, needs_harvest
from agent.inquiry.lab import Lab, spent
from agent.inquiry.limits import Limits
from agent.inquiry.threads import open_threads
from agent.state import Case, State, load_case
from prompts.budget import Budget
from store.errors import UserError
from store.types import Conclusion

if TYPE_CHECKING:
    from agent.session import Session

STEPS_AT_MOST = 10_000  # the limits end a run long before; this is langgraph's own bound


async def investigate(
    session: "Session", question: str | None, thread: str, limits: Limits, resume: Any = None
) -> AsyncGenerator[Event, None]:
    """Investigates `question` on `thread`, new or known; None goes on with what the thread was interrupted in.

    `resume` answers an `ApprovalNeeded`: True allows the tool. Whoever stops listening stops the run; it goes on from
    the last finished step. UserError when the thread is unknown, of another subject, or of another version.
    """
    if question is not None:
        check_question(question, session.embedded_agent)
    async with open_threads(session.workspace, thread) as saver:
        graph = build().compile(checkpointer=saver)
        config: RunnableConfig = {"configurable": {"thread_id": thread}, "recursion_limit": STEPS_AT_MOST}
        stored = await graph.aget_state(config)
        case = load_case(stored.values, thread)
        going_on = bool(stored.tasks)  # also those that finished just before the end, which `next` leaves out
        if question is None and case is None and not going_on:
            raise _unknown(session, thread)
        if question is None and not going_on:
            raise UserError(f"The thread {thread} has concluded: ask it a new question.")
        start: Any = Command(resume=resume) if resume is not None else None
        if question is not None:
            start = State(question=question, case=None, history=case.history if case else [])
        await asyncio.to_thread(session.ledger.close)  # what a stopped run handed in is there before it is looked for
        lab = open_lab(session, thread, limits, case if question is None else None, question)
        try:
            before = lab.context.fingerprint if case is None else case.subject
            if before != lab.context.fingerprint and (question is None or not session.has_loaded(before)):
                raise UserError(
                    f"The thread {thread} is about another subject, text or seed than this one: give the --model, "
                    "--dictionary and --tokens it was begun with, or begin a new thread."
                )
            if case is not None and question is None:
                yield spent(case)
            kinds: Any = ["custom", "updates"]
            stream: Any = graph.astream(start, config, context=lab, stream_mode=kinds, durability="sync")
            silent = True
            async with aclosing(stream):
                async for kind, told in stream:
                    if kind == "custom":
                        silent = False
                        yield told
                    elif "__interrupt__" in told:
                        silent = False
                        yield ApprovalNeeded(**told["__interrupt__"][0].value)
            if silent and case is not None:  # cut off between its conclusion and the last checkpoint
                row = session.ledger.find(Conclusion, investigation=case.investigation)[-1]
                yield Concluded(thread=thread, reason=row.reason, claims=list(row.claims))
        finally:
            await lab.llm.aclose()


def _budget(limits: Limits, before: Case | None) -> Budget:
    """What may still be spent: the limits less what earlier runs of this question used up."""
    tokens, usd = (before.tokens, before.usd or 0.0) if before else (0, 0.0)
    return Budget(
        max_usd=None if limits.usd is None else max(0.0, limits.usd - usd),
        max_tokens=None if limits.tokens is None else max(0, limits.tokens - tokens),
    )


def open_lab(
    session: "Session", thread: str, limits: Limits, before: Case | None = None, question: str | None = None
) -> Lab:
    """What a run of the graph works with: subject, harvest and LLM. Close its `llm`.

    `before` is the case to go on with. UserError, before anything is opened, for limits that cannot be kept, and before
    a harvest is made for a `question` about what the subject does not have.
    """
    settings, budget = session.settings, _budget(limits, before)
    roles = session.answered()
    session.check_llm(budget, roles)
    session.check_agent()
    if question is not None:
        check_question(question, session.embedded_agent, session.subject)
    if before is not None:
        harvest = session.harvest_of(before.subject)
    elif question is not None and not needs_harvest(question, session.embedded_agent):
        harvest = session.find_harvest()
    else:
        harvest = session.harvest()
    context = session.context(harvest)
    subject, llm = context.subject, session.llm(budget, roles)
    context.llm = llm
    about = (
        f"{subject.name}, dictionary {subject.dictionary.name} with latents 0 to {subject.dictionary.n_latents - 1} "
        f"on {subject.hook}"
    )
    return Lab(thread, context, limits, llm, about, settings.model, settings.dictionary, settings.hook, before)


def _unknown(session: "Session", thread: str) -> UserError:
    names = list(threads(session.ledger))
    known = f"this workspace has {', '.join(names[:8])}" if names else "this workspace has none yet"
    return UserError(f'There is no thread {thread!r}: {known}; glossator ask "..." begins one.')
