"""The overnight batch, from the command line's words to its outcome. Killed at any time, the same command goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent.batch.choose import asked_roles, drawn, indices, latents_named, tool_names
from agent.batch.earlier import Earlier
from agent.batch.labeller import Labeller
from agent.batch.report import Batch
from agent.screen.console import meter, say
from agent.session import Session
from prompts.budget import Budget
from store.errors import UserError
from store.lock import only_one

SPARE_LATENTS = 2  # being scored beside those that keep the LLM busy: some compute, or wait for their last verdicts
REQUESTS_PER_LATENT = 16  # in flight; a scorer has dozens ready at once


def label_latents(
    session: Session,
    latents: str | None,
    sample: int | None,
    file: Path | None,
    explainers: Sequence[str],
    scorers: Sequence[str],
    retry_failed: bool = False,
) -> Batch:
    """Labels the latents that `--latents`, `--sample` or `--file` names; harvests first if the workspace has none."""
    named = latents_named(latents, file, sample)
    methods = tool_names(list(explainers), "explain_", "explainer")
    measures = tool_names(list(scorers), "score_", "scorer")
    if not methods:
        raise UserError("There is nothing to do: name at least one --explainer.")
    session.ledger.sql("SELECT 1")  # a store that cannot be used is refused before anything is made
    subject, s = session.subject, session.settings
    wanted = indices(subject, named) if named is not None else None
    budget = Budget(s.max_usd, s.max_calls, s.max_hours)
    roles = asked_roles([*methods, *measures])
    session.check_llm(budget, roles)
    harvest = session.harvest()
    llm = session.llm(budget, roles, ask_again=retry_failed)
    context = session.context(harvest, llm)
    chosen = wanted if wanted is not None else drawn(harvest.stats().count, sample or 0, context.rng("sample"))
    if sample is not None and len(chosen) < sample:
        say(f"Only {len(chosen):,} latents fire in this harvest; labelling them all.")

    in_flight = SPARE_LATENTS + s.concurrency // REQUESTS_PER_LATENT

    async def batch() -> Batch:
        with meter("labelling, requests") as advance:
            earlier = Earlier(session.ledger)
            labeller = Labeller(context, earlier, chosen, methods, measures, in_flight, retry_failed, advance)
            try:
                return await labeller.run()
            finally:
                await llm.aclose()

    refusal = f"Another glossator label is at work in {session.workspace}: wait for it, or use another --workspace."
    with only_one(session.workspace / "label.lock", refusal):  # two would pay for the same replies
        return asyncio.run(batch())
