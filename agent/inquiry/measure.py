"""One run of one tool inside an investigation: approved, run at most once, and kept with its reason."""

import asyncio
from datetime import datetime
from typing import Any

from langgraph.types import interrupt

from agent.inquiry.brief import Brief, brief
from agent.inquiry.events import ToolBegan, ToolEnded
from agent.inquiry.lab import LIMIT_NAMES, Lab
from agent.inquiry.measures import measures
from agent.inquiry.menu import looking, takes_pairs, testing
from agent.inquiry.small import unspoilt
from agent.state import Case, Pending, Ran
from prompts.errors import BudgetSpent, LLMError
from prompts.pricing import dollars
from prompts.providers import Role
from store.errors import StoreBusy, UserError
from store.types import Experiment, ToolUse
from tools.workbench.registry import Tool, ToolInput, get_tool
from tools.workbench.run import estimate, key_of, run, validate

CALL_TOKENS = {Role.AGENT: (8000, 500), Role.EXPLAINER: (4000, 500), Role.JUDGE: (300, 100)}  # of a prompt, of a reply
MOST_FIGURES = 6  # of a run, in a prompt
CALL_S = 2.0  # of a call to an LLM that has answered none yet


def checked(case: Case, name: str, input: dict[str, Any], why: str, since: datetime, lab: Lab) -> Pending:
    """The run as it will be made. UserError when there is no such tool or the input does not fit."""
    tool = get_tool(name)
    if "latent" in tool.input.model_fields and case.latent is not None:
        input = {"latent": case.latent, **input}
    if case.contrast and takes_pairs(tool) and not (input.get("template") or input.get("pairs")):
        input = {**input, **case.contrast}
    valid = validate(tool, input)
    index = getattr(valid, "latent", None)
    if isinstance(index, int):
        lab.context.subject.check_latent(index)
    return Pending(tool=name, input=valid.model_dump(mode="json"), why=why, since=since)


def already(case: Case, pending: Pending, lab: Lab) -> Ran | None:
    """The run of this investigation that `pending` would repeat, whatever p its result may have."""
    for ran in case.runs:
        made = lab.ledger.get(Experiment, ran.id) if ran.tool == pending.tool else None
        if made is not None and repeats(made.input, pending.input):
            return ran
    return None


def repeats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two inputs of a tool measure the same."""
    return {**one, "level": None} == {**other, "level": None}


class NotRun(Exception):
    """A run that was not made; the text is a sentence for the LLM."""


async def measure(case: Case, pending: Pending, lab: Lab) -> Ran:
    """Makes the run, unless it was made before a crash. Raises NotRun when it was refused or a limit was reached.

    Interrupts the graph when the tool's estimate is above the limit that needs no approval.
    """
    experiment = _finished(pending, lab)
    if experiment is None:
        if refusal := await _unapproved(pending, lab):
            raise NotRun(refusal)
        lab.tell(ToolBegan(tool=pending.tool, why=pending.why, input=pending.input))
        case.tool_calls += 1
        try:
            async with asyncio.timeout(lab.remaining_s(case)):
                first = pending.predictions[0] if pending.predictions else None
                experiment = await run(pending.tool, pending.input, lab.context, first)
        except BudgetSpent as spent:
            case.stop(LIMIT_NAMES.get(spent.limit, spent.limit), mute=True)
            raise NotRun(str(spent)) from None
        except TimeoutError:
            case.stop("minutes", mute=True)
            raise NotRun("the time was up") from None
        except (LLMError, StoreBusy):
            raise
        except UserError as error:
            raise NotRun(str(error)) from None
    use = ToolUse(
        investigation=case.investigation,
        step=case.step,
        round=case.round,
        experiment=experiment.id,
        why=pending.why,
    )
    await lab.once(use, investigation=case.investigation, experiment=experiment.id)
    short = brief(unspoilt(experiment, lab.context) if lab.small(case) else experiment)
    lab.tell(
        ToolEnded(
            tool=pending.tool,
            experiment=experiment.id,
            ok=experiment.error is None,
            verdict=short.verdict,
            seconds=experiment.seconds,
            output=experiment.output,
        )
    )
    case.fresh = case.fresh or experiment.error is None
    return case.add_run(experiment, short.verdict, _more(case, experiment.tool, short, lab))


def _more(case: Case, tool: str, short: Brief, lab: Lab) -> str:
    """What a native LLM reads of a run besides its verdict: figures that predictions can be about, what may follow."""
    able = [path for path in measures(get_tool(tool)) if path in short.numbers]
    figures = [f"{path} {short.numbers[path]:.4g}" for path in able[:MOST_FIGURES]]
    menu = {
        each.name for each in (*looking(case, not lab.native, lab.roles), *testing(case, not lab.native, lab.roles))
    }
    following = [name for name in short.next if name in menu]
    return "; ".join(filter(None, [", ".join(figures), f"next: {', '.join(following)}" if following else ""]))


def _finished(pending: Pending, lab: Lab) -> Experiment | None:
    """The run, if it is in the ledger already: made by this investigation before it was cut off."""
    found = lab.ledger.find(Experiment, key=key_of(pending.tool, pending.input, lab.context))
    return next((experiment for experiment in found if experiment.created_at >= pending.since), None)


async def _unapproved(pending: Pending, lab: Lab) -> str | None:
    """Why a dear run may not be made; asks, where somebody is there to answer."""
    tool, limits = get_tool(pending.tool), lab.limits
    input = validate(tool, pending.input)
    seconds = (await estimate(pending.tool, input, lab.context) or 0.0) + _asking_s(tool, input, lab)
    usd = _dollars(tool, input, lab)
    dear = []
    if seconds > limits.approve_seconds:
        dear.append(f"take about {seconds:,.0f} s, more than the {limits.approve_seconds:,.0f} s")
    if usd > limits.approve_usd:
        dear.append(f"cost about ${usd:,.2f}, more than the ${limits.approve_usd:,.2f}")
    if not dear:
        return None
    told = f"{' and '.join(dear)} that need no approval"
    if not limits.interactive:
        return f"{pending.tool} would {told}, and nobody is here to approve it: choose a cheaper run."
    if interrupt({"tool": pending.tool, "input": pending.input, "estimate": told}) is True:
        return None
    return f"{pending.tool} was not approved: choose another run."


def _asking_s(tool: Tool, input: ToolInput, lab: Lab) -> float:
    """Seconds that the LLMs which a run asks will take, one question after the other, as they took so far."""
    return _calls(tool, input, lab) * sum(_call_s(role, lab) for role in tool.asks)


def _call_s(role: Role, lab: Lab) -> float:
    """Mean seconds of the calls that this role's LLM has answered."""
    usage = lab.ledger.view("prompt_usage", role=role.value, model=lab.llm.endpoints[role].model)
    calls = sum(row["calls"] for row in usage)
    return sum(row["calls"] * row["mean_seconds"] for row in usage) / calls if calls else CALL_S


def _dollars(tool: Tool, input: ToolInput, lab: Lab) -> float:
    """What the LLMs that a run asks will cost, as far as prices are known."""
    each = sum(dollars(lab.llm.endpoints[role], *CALL_TOKENS[role]) or 0.0 for role in tool.asks)
    return _calls(tool, input, lab) * each


def _calls(tool: Tool, input: ToolInput, lab: Lab) -> int:
    return tool.calls(input, lab.context) if tool.calls else 1
