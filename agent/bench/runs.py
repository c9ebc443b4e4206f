"""Running tools for a benchmark: nothing twice, and what their LLM calls came to."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prompts.providers import Role
from store.types import Experiment

if TYPE_CHECKING:
    from store.ledger import Ledger
    from tools.workbench.context import Context


def calls(found: Mapping[str, Any]) -> set[str]:
    """The ids of the LLM calls that an output rests on."""
    given = [found.get("call")]
    for item in found.get("items", ()):
        given += [item.get("call"), item.get("floor_call")]
    return {call for call in given if call}


def tokens(ledger: "Ledger", calls: set[str]) -> int:
    """Tokens of prompts and replies of these calls."""
    if not calls:
        return 0
    ids = ", ".join(f"'{id}'" for id in sorted(calls))
    _, rows = ledger.sql(f"SELECT sum(prompt_tokens + completion_tokens) FROM llm_calls WHERE id IN ({ids})")
    return int(rows[0][0] or 0)


def output(experiment: Experiment) -> Mapping[str, Any]:
    """What a run found; empty when it failed."""
    return experiment.output or {}


class Runs:
    """Runs tools; a run that the ledger already has, by the same LLM, is taken from there."""

    def __init__(self, context: "Context") -> None:
        self._ids = context.ledger.experiment_keys()

    async def __call__(self, tool: str, input: dict[str, Any], context: "Context", role: Role) -> Experiment:
        from tools.workbench.run import key_of, run

        id = self._ids.get(key_of(tool, input, context))
        if id is not None:
            known = await asyncio.to_thread(context.ledger.get, Experiment, id)
            if known is not None and context.need_llm().endpoints[role].model == output(known).get(
                "explainer" if role is Role.EXPLAINER else "judge"
            ):
                return known
        return await run(tool, input, context)
