"""What the nodes work with besides the case: the tools' context, the limits, and whoever is told what happens."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from agent.inquiry.events import Event, Spent, TextDelta
from agent.inquiry.limits import Limits
from agent.inquiry.menu import MINIMAL_PAIRS, signature
from agent.inquiry.small import SAYS, fired, quoted, refined, untested
from agent.state import Case, Ran, Stated, Turn
from prompts.actions import Action
from prompts.ask import LLM, Choice
from prompts.errors import BudgetSpent, NoAnswer
from prompts.providers import Role
from store.ledger import Ledger
from store.types import Experiment, Fact, ToolOffer
from tools.workbench.context import Context

F = TypeVar("F", bound=Fact)

TEMPLATE = "investigate"
SMALL = "investigate_small"  # one conversation, begun by whole studies: what was read once need not be read again
CHOOSE = "investigate_choose"  # apart from it: what follows from a hypothesis, for a reader of nothing else
LIMIT_NAMES = {"hours": "minutes"}  # of the budget, as people set them
MUTE = ("tokens", "dollars", "minutes", "unusable replies")  # limits after which the LLM is not asked again


@dataclass
class Lab:
    """Built by `investigate` for one run of the graph. `about` describes the subject to the LLM."""

    thread: str
    context: Context
    limits: Limits
    llm: LLM
    about: str
    model: str  # the subject's names and dtype, as the settings spell them
    dictionary: str
    hook: str | None
    before: Case | None = None  # what earlier runs of this question had used up
    tell: Callable[[Event], None] = field(default=lambda event: None)
    _since: float = 0.0

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger

    @property
    def llm_name(self) -> str:
        return self.llm.endpoints[Role.AGENT].model

    @property
    def native(self) -> bool:
        return self.llm.endpoints[Role.AGENT].tool_calls

    def small(self, case: Case) -> bool:
        """Whether a small LLM is at work: without tool calls, in its own forms (agent.inquiry.small) on a latent, not
        asked at all about a behaviour that code localises."""
        return not self.native and (case.latent is not None or bool(case.contrast))

    @property
    def roles(self) -> frozenset[Role]:
        """Whose questions are answered: tools that ask others are not offered."""
        return frozenset(self.llm.endpoints)

    def begin(self, tell: Callable[[Event], None]) -> None:
        """A node begins: its time counts from now."""
        self.tell, self._since = tell, time.monotonic()

    def account(self, case: Case) -> None:
        """Adds the node's time to the case and tells what has been spent."""
        now = time.monotonic()
        case.seconds += now - self._since
        self._since = now
        budget, before = self.llm.budget, self.before
        case.tokens = budget.tokens + (before.tokens if before else 0)
        earlier = before.usd if before else 0.0
        case.usd = None if budget.unpriced or earlier is None else budget.usd + earlier
        self.tell(spent(case))

    def reached(self, case: Case) -> str | None:
        """The name of the limit that is reached, if one is."""
        limits = self.limits
        if limits.minutes is not None and case.seconds >= limits.minutes * 60:
            return "minutes"
        if limits.tokens is not None and case.tokens >= limits.tokens:
            return "tokens"
        if limits.usd is not None and (case.usd or 0.0) >= limits.usd:
            return "dollars"
        if case.tool_calls >= limits.tool_calls and (case.queue or case.step == "observe"):
            return "tool calls"
        if case.quiet >= limits.quiet_rounds:
            return "no new information"
        return "unusable replies" if case.stumbles >= limits.unusable_replies else None

    def remaining_s(self, case: Case) -> float | None:
        """Seconds until the limit in minutes; None without one."""
        if self.limits.minutes is None:
            return None
        return max(0.0, self.limits.minutes * 60 - case.seconds - (time.monotonic() - self._since))

    async def once(self, fact: F, **where: str) -> F:
        """Records `fact`, unless a row among those that `where` names says the same: a step repeated after a crash."""

        def settle() -> F:
            for kept in self.ledger.find(type(fact), **where):
                if kept.model_copy(update={"created_at": fact.created_at}) == fact:
                    return kept
            self.ledger.append(fact)  # at once: each step waits for its rows
            return fact

        return await asyncio.to_thread(settle)

    async def ask(self, case: Case, actions: Sequence[Action], tools: Sequence[str] = ()) -> Choice | None:
        """What the LLM chooses in this step; None when the reply cannot be used or a limit is reached.

        `tools` are the measuring tools among the actions, kept as a `ToolOffer`.
        """
        if case.last is not None:
            case.turns.append(case.last)
        case.asked, case.last = case.asked + 1, None
        template, values = prompt(case, self, actions)
        call: str | None = None
        try:
            async with asyncio.timeout(self.remaining_s(case)):
                choice = await self.llm.act(
                    Role.AGENT, template, values, actions, lambda text: self.tell(TextDelta(text=text))
                )
            call = choice.call_id
            if template == SMALL:
                case.last = Turn(asked=choice.asked, said=choice.text, runs=len(case.runs))
            return choice
        except NoAnswer as failure:
            call = failure.call_id
            case.stumble(str(failure))
        except BudgetSpent as spent:
            case.stop(LIMIT_NAMES.get(spent.limit, spent.limit), mute=True)
        except TimeoutError:
            case.stop("minutes", mute=True)
        finally:
            offer = ToolOffer(
                investigation=case.investigation, step=case.step, round=case.round, tools=tuple(tools), call=call
            )
            if call is not None:
                await self.once(offer, investigation=case.investigation, call=call)
        return None


def spent(case: Case) -> Spent:
    """What the case has used up."""
    return Spent(round=case.round, tool_calls=case.tool_calls, tokens=case.tokens, usd=case.usd, seconds=case.seconds)


def prompt(case: Case, lab: Lab, actions: Sequence[Action]) -> tuple[str, dict[str, object]]:
    """The template of the step and its values."""
    if lab.small(case) and case.step == "predict":
        return CHOOSE, {
            "claim": untested(case)[0].claim.removeprefix(SAYS),
            "words": quoted(actions[0].schema["properties"]["fits"]["items"]["enum"]),
            "problem": case.problem,
        }
    if lab.small(case):
        fresh = case.runs[case.turns[-1].runs if case.turns else 0 :]
        told = " ".join(f"{_name(h)} {case.standing(h.label)}{_by(case, h)}." for h in case.hypotheses)
        return SMALL, {
            "question": case.question,
            "turns": [(turn.asked, turn.said) for turn in case.turns],
            "runs": [_ran(run, native=False) for run in fresh if run.tool != MINIMAL_PAIRS],  # what fired is told below
            "refined": refined(case).label if case.hypotheses else "",
            "fired": fired(_tests(case, lab)) if case.step == "refine" and _tests(case, lab) else "",
            "verdicts": told,
            "step": case.step,
            "problem": case.problem,
        }
    return TEMPLATE, {
        "subject": lab.about,
        "history": case.history,
        "question": case.question,
        "aim": case.aim,
        "runs": [_ran(run, lab.native) for run in case.runs],
        "hypotheses": [_told(case, hypothesis) for hypothesis in case.hypotheses],
        "step": case.step,
        "untested": [h.label for h in case.hypotheses if not any(p.hypothesis == h.label for p in case.predictions)],
        "limit": case.ended,
        "acts": [] if lab.native else [signature(action) for action in actions],
        "problem": case.problem,
    }


def _ran(run: Ran, native: bool) -> str:
    """A run in a line: verdict, and for a native LLM the start of its id, figures and what could be asked next."""
    if not native:
        return f"{run.label} {run.tool}: {run.line}"
    return f"{run.label} {run.tool} {run.id[:8]}: {run.line}" + (f" ({run.more})" if run.more else "")


def _name(hypothesis: Stated) -> str:
    return f"{hypothesis.label}{' (dull)' if hypothesis.dull else ''}"


def _tests(case: Case, lab: Lab) -> list[Experiment]:
    """The tests on minimal pairs so far."""
    found = [lab.ledger.get(Experiment, run.id) for run in case.runs if run.tool == MINIMAL_PAIRS and run.ok]
    return [experiment for experiment in found if experiment]


def _by(case: Case, hypothesis: Stated) -> str:
    by = case.decided_by(hypothesis.label)
    return f" by {', '.join(by)}" if by else ""


def _told(case: Case, hypothesis: Stated) -> str:
    """A hypothesis with its standing, the runs that decided it, and every prediction."""
    mine = [p for p in case.predictions if p.hypothesis == hypothesis.label]
    told = f"{_name(hypothesis)}: {hypothesis.claim}"
    if mine:
        told += f" [{case.standing(hypothesis.label)}{_by(case, hypothesis)}]"
    outcomes = {True: "held", False: "FAILED", None: "undecided"}
    tests = [
        p.sentence + (f" in {p.run}: {outcomes[p.held]}" if p.run else f", not run: {p.note}" if p.note else "")
        for p in mine
    ]
    return told + "".join(f"\n  predicts {test}" for test in tests)
