"""Labelling of a planted latent by the agent: an investigation with a budget of tokens, and what survived it."""

from typing import TYPE_CHECKING

from agent.bench.trials import Said
from agent.inquiry.events import Spent
from agent.inquiry.limits import Limits
from agent.state import VERSION
from prompts.errors import BudgetSpent
from prompts.template import load
from store.ids import content_hash

if TYPE_CHECKING:
    from agent.session import Session
    from agent.state import Case
    from prompts.budget import Budget

TEMPLATES = ("investigate", "investigate_small", "investigate_choose")  # a changed prompt is another investigation
QUESTION = "What does latent {latent} do: what does it fire on, and what does it make the model write?"


class ByAgent:
    """`subject` and `llm` name what a thread is about and who asks; `tokens` is the budget of one latent, of prompts
    and replies. `budget` is the whole benchmark's, looked at between investigations."""

    mode = "agent"

    def __init__(self, session: "Session", subject: str, llm: str, tokens: int, budget: "Budget") -> None:
        self._session = session
        prompts = [load(name).hash for name in TEMPLATES]
        self._key = content_hash([subject, llm, tokens, VERSION, *prompts])[:8]
        self._tokens = tokens
        self._budget = budget

    async def say(self, latent: int) -> Said:
        """What the investigation of `latent` concluded; one that was interrupted goes on."""
        thread = f"planted-{latent}-{self._key}"
        case = await self._case(thread)
        if case is None or case.next != "end":
            await self._investigate(thread, QUESTION.format(latent=latent) if case is None else None)
            case = await self._case(thread)
        assert case is not None, "an investigation leaves its case"
        label, stands = surviving(case)
        return Said(
            latent=latent,
            reads=label,
            writes=label,
            stands=stands,
            stands_writing=stands,
            tokens=case.tokens,
            calls=self._calls(case),
            failure=None if label else f"no hypothesis survived ({case.ended or 'concluded'})",
        )

    async def _investigate(self, thread: str, question: str | None) -> None:
        from agent.inquiry.investigate import investigate

        budget = self._budget
        if budget.max_hours is not None and budget.hours >= budget.max_hours:
            raise BudgetSpent("hours", f"The time limit of {budget.max_hours:g} hours is reached.")
        left = None if budget.max_usd is None else budget.max_usd - budget.usd
        if left is not None and left <= 0:
            raise BudgetSpent("dollars", f"The budget of {budget.max_usd:g} USD is spent.")
        limits = Limits.model_validate({"tokens": self._tokens, "usd": left, "minutes": None})
        spent: Spent | None = None
        async for event in investigate(self._session, question, thread, limits):
            spent = event if isinstance(event, Spent) else spent
        budget.usd += (spent and spent.usd) or 0.0

    async def _case(self, thread: str) -> "Case | None":
        from agent.graph import build
        from agent.inquiry.threads import open_threads
        from agent.state import load_case

        async with open_threads(self._session.workspace, thread) as saver:
            stored = await build().compile(checkpointer=saver).aget_state({"configurable": {"thread_id": thread}})
            return load_case(stored.values, thread)

    def _calls(self, case: "Case") -> int:
        query = f"SELECT count(DISTINCT call) FROM tool_offers WHERE investigation = '{case.investigation}'"
        return int(self._session.ledger.sql(query)[1][0][0])


def surviving(case: "Case") -> tuple[str | None, bool]:
    """The label that an investigation leaves, and whether it stands by it.

    The hypotheses whose predictions held, vouched for. If there are none the first that was neither supported nor
    refuted, a guess; failing that the dull one, if its own predictions held: it is not excluded.
    """
    held = [h.claim for h in case.hypotheses if not h.dull and case.standing(h.label) == "supported"]
    if held:
        return " ".join(held), True
    guesses = [h.claim for h in case.hypotheses if not h.dull and case.standing(h.label) == "untested"]
    guesses += [h.claim for h in case.hypotheses if h.dull and case.standing(h.label) == "supported"]
    return (guesses[0] if guesses else None), False
