"""Running tools for a benchmark: nothing twice, and every call counted."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prompts.providers import Role
from store.types import Experiment

if TYPE_CHECKING:
    from prompts.ask import LLM, Answer
    from prompts.errors import NoAnswer
    from store.ledger import Ledger
    from tools.workbench.context import Context


class Metered:
    """An LLM that keeps the ids of the calls that answered."""

    def __init__(self, llm: "LLM") -> None:
        self._llm = llm
        self.endpoints = llm.endpoints
        self.calls: set[str] = set()

    async def ask(self, *asked: Any, **more: Any) -> "Answer":
        answer = await self._llm.ask(*asked, **more)
        self.calls.add(answer.call_id)
        return answer

    async def ask_many(self, *asked: Any, **more: Any) -> "list[Answer | NoAnswer]":
        answers = await self._llm.ask_many(*asked, **more)
        self.calls.update(found for answer in answers if (found := getattr(answer, "call_id", None)))
        return answers

    def tokens(self, ledger: "Ledger") -> int:
        """Tokens of prompts and replies of these calls."""
        if not self.calls:
            return 0
        ids = ", ".join(f"'{id}'" for id in sorted(self.calls))
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
