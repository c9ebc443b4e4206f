"""Rows run again without trusting whoever wrote them: experiments by their tools, LLM steps from their records."""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.inquiry.dossier import Dossier
from agent.session import Session
from prompts.actions import read_acts
from prompts.errors import NoAnswer
from prompts.template import load as load_template
from store.errors import UserError
from store.ids import content_hash
from store.types import Experiment, Investigation, Judgement, LLMCall
from tools.workbench.run import run

if TYPE_CHECKING:
    from prompts.ask import LLM

TOLERANCE = 1e-6  # relative, between the numbers of an output and of its replay


@dataclass(frozen=True)
class Replayed:
    """What came of one row. `outcome` is "equal", "within tolerance" or "different", `differences` say where."""

    id: str
    what: str
    outcome: str
    differences: list[str]
    again: str | None = None  # id of the replication, for an experiment

    @property
    def differs(self) -> bool:
        return self.outcome == "different"


def surroundings(session: Session, first: Experiment) -> Session:
    """A session with what the experiment was made with, as far as the ledger says; a subject that is loaded is used."""
    changes: dict[str, Any] = {"seed": first.seed, "adapter": first.adapter}
    if first.opening:
        changes |= {"hook": None, "base": None, **first.opening}
    elif known := session.ledger.find(Investigation, subject=first.subject):
        last = known[-1]
        changes |= {"model": last.model, "dictionary": last.dictionary, "hook": last.hook, "dtype": last.dtype}
    recorded = Session(session.settings.model_copy(update=changes))
    recorded.ledger = session.ledger
    if session.has_loaded(first.subject):
        recorded.subject = session.subject
    return recorded


async def replay_experiment(session: Session, first: Experiment, llm: "LLM") -> Replayed:
    """Runs it again on the recorded subject and harvest; its LLM answers from the records."""
    context = await asyncio.to_thread(lambda: session.context(session.harvest_of(first.subject), llm))
    context.seed = first.seed
    again = await run(first.tool, first.input, context)
    before, after = first.output or {"error": first.error}, again.output or {"error": again.error}
    lines = differences(before, after)
    if again.version != first.version:
        lines.insert(
            0, f"tool: {first.tool} is version {again.version} now, the row was made by version {first.version}"
        )
    if again.subject != first.subject:
        lines.insert(0, "subject: another model, dictionary or harvest than recorded")
    outcome = "different" if lines else "equal" if before == after else "within tolerance"
    return Replayed(first.id, first.tool, outcome, lines, again.id)


def replay_call(call: LLMCall) -> Replayed:
    """Whether the recorded reply still answers the recorded request, and still reads as it did."""
    lines = []
    if content_hash([call.model, call.parameters, list(call.messages)]) != call.request:
        lines.append("request: its model, parameters and messages give another hash")
    try:
        template = load_template(call.template)
        if template.hash != call.template_hash:
            lines.append(f"template: {call.template} has another text than recorded")
    except UserError as error:
        lines.append(f"template: {error}")
    return Replayed(call.id, f"reply to {call.template}", "different" if lines else "equal", lines)


async def replay_thread(session: Session, found: list[Dossier], llm: "LLM") -> list[Replayed]:
    """Every step of a thread in order: replies, experiments, verdicts on the new outputs, conclusions."""
    replayed: list[Replayed] = []
    for dossier in found:
        replayed += [_replayed_step(call) for call in dossier.calls]
        again: dict[str, str] = {}
        for experiment in dossier.evidence.experiments.values():
            replayed.append(await replay_experiment(session, experiment, llm))
            again[experiment.id] = replayed[-1].again or ""
        replayed += [_replayed_verdict(session, dossier, judgement, again) for judgement in dossier.evidence.judgements]
        if dossier.conclusion:
            faults = [
                f"claim {number}: {fault}"
                for number, claim in enumerate(dossier.conclusion.claims, 1)
                for fault in dossier.evidence.faults(claim)
            ]
            outcome = "different" if faults else "equal"
            replayed.append(Replayed(dossier.conclusion.id, "conclusion", outcome, faults))
    return replayed


def _replayed_step(call: LLMCall) -> Replayed:
    """A reply of the agent, and whether it still reads as acts; one that never did is told so and is no difference."""
    found = replay_call(call)
    try:
        acts = ", ".join(act.name for act in read_acts(call))
    except NoAnswer as failure:
        acts = f"unusable: {failure}"
    return Replayed(found.id, f"{found.what}: {acts}", found.outcome, found.differences)


def _replayed_verdict(session: Session, dossier: Dossier, first: Judgement, again: dict[str, str]) -> Replayed:
    prediction = dossier.evidence.predictions[first.prediction]
    experiment = session.ledger.get(Experiment, again.get(first.experiment, ""))
    if experiment is None:
        return Replayed(first.id, "verdict", "different", ["experiment: it is not there to be run again"])
    verdict = Judgement.of(prediction, experiment)
    lines = [] if verdict.held == first.held else [f"held: {first.held} became {verdict.held}"]
    lines += differences(first.value, verdict.value, "value")
    outcome = "different" if lines else "equal" if verdict.value == first.value else "within tolerance"
    return Replayed(first.id, f"verdict on {prediction.sentence}", outcome, lines)


def differences(first: Any, again: Any, path: str = "output") -> list[str]:
    """Where two JSON values differ, one line each; numbers may differ by a millionth."""
    if isinstance(first, dict) and isinstance(again, dict):
        both = [line for key in first if key in again for line in differences(first[key], again[key], f"{path}.{key}")]
        gone = [f"{path}.{key}: it is no more there" for key in first if key not in again]
        return both + gone + [f"{path}.{key}: it was not there before" for key in again if key not in first]
    if isinstance(first, list) and isinstance(again, list) and len(first) == len(again):
        pairs = enumerate(zip(first, again, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}[{i}]")]
    if isinstance(first, int | float) and isinstance(again, int | float) and not isinstance(first, bool):
        if abs(first - again) <= TOLERANCE * max(1.0, abs(first), abs(again)):
            return []
    elif first == again:
        return []
    return [f"{path}: {json.dumps(first)[:80]} became {json.dumps(again)[:80]}"]
