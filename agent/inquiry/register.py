"""Predictions before their tests: what may be registered, what an investigation still lacks."""

from itertools import combinations
from typing import Any

from pydantic import ValidationError

from agent.inquiry.auditing import halved
from agent.inquiry.events import PredictionRegistered
from agent.inquiry.lab import Lab
from agent.inquiry.measure import already, checked, repeats
from agent.inquiry.measures import Range, disjoint, foregone, ranges
from agent.inquiry.menu import DEFAULTS, MINIMAL_PAIRS, Expected, open_labels
from agent.inquiry.small import known, offered, spelled_out, untested
from agent.state import Case, Foretold, Pending
from prompts.actions import Act
from store.errors import UserError
from store.types import Experiment, Prediction, now
from tools.workbench.registry import get_tool
from tools.workbench.run import key_of

FALSE_ALARMS = 0.05  # of an investigation in which nothing is true


def lacking(case: Case) -> list[str]:
    """What the predictions registered so far still lack, a phrase each."""
    sound = [p for p in case.predictions if not p.judged or p.held is not None]  # the others' tests gave nothing
    waiting = [p for p in sound if not p.judged]
    missing = [f"a prediction of {h}" for h in open_labels(case) if not any(p.hypothesis == h for p in sound)]
    if case.latent is not None and not any(p.counterexample for p in sound):
        missing.append("a test on minimal pairs")
    if waiting and len(open_labels(case)) > 1 and not any(_told_apart(case, pending) for pending in case.queue):
        missing.append("a test of which two hypotheses expect outcomes of one measure that exclude each other")
    return missing


def level(case: Case) -> float:
    """The p that the next test which takes a level may have: 1/2, 1/6, 1/12, ... of 0.05 for the first, second, third.

    These add up to no more than 0.05, so that of all the tests of an investigation, however many it comes to make, one
    is clear by chance in one of twenty investigations at most (Bonferroni's inequality, with unequal parts).
    """
    tested = {prediction.run for prediction in case.predictions}
    tools = [run.tool for run in case.runs if run.label in tested]
    tools += [pending.tool for pending in case.queue if pending.predictions]
    made = sum(map(_levelled, tools))
    return FALSE_ALARMS / ((made + 1) * (made + 2))


def _levelled(tool: str) -> bool:
    """Whether its result is clear by a p that is chosen beforehand, such as that of minimal pairs."""
    return "level" in get_tool(tool).input.model_fields


def _told_apart(case: Case, pending: Pending) -> bool:
    """Whether the outcomes of the test that one hypothesis allows are none that another allows."""
    foretold = [p for p in case.predictions if p.id in pending.predictions]
    return any(disjoint(one, other) for one, other in combinations(foretold, 2))


async def register(case: Case, lab: Lab, act: Act) -> None:
    """Puts a test's predictions into the ledger and the test into the queue. UserError says what was wrong."""
    tool = get_tool(act.name)
    given = _given(case, act, lab)
    input = given.get("input")
    if not isinstance(input, dict):
        raise UserError(f"{act.name}: give the test's input as an object.")
    if _levelled(tool.name):
        input = {**input, "level": level(case)}
    if case.audits:
        input = halved(tool, input, testing=True)
    expected = _expected(case, act.name, given.get("expect") or ())
    pending = checked(case, act.name, input, "", now(), lab)
    if ran := already(case, pending, lab):
        raise UserError(f"{act.name} with that input was run as {ran.label}: predict what is not known yet.")
    if key_of(pending.tool, pending.input, lab.context) in case.refused:
        raise UserError(f"{act.name} with that input could not be run: design another test.")
    if any(waiting.tool == pending.tool and repeats(waiting.input, pending.input) for waiting in case.queue):
        raise UserError(f"{act.name} with that input is registered already: design another test.")
    measure, threshold = DEFAULTS.get(tool.name, (None, None))
    can, rows = ranges(tool), []
    for each in expected:
        name = each.measure or measure
        limit = each.threshold if each.threshold is not None else (threshold if name == measure else None)
        if name not in can or limit is None:
            raise UserError(f"{act.name}: state a measure ({', '.join(can)}) and a threshold.")
        if foregone(each.comparison, limit, can[name]):
            raise UserError(
                f"{act.name}: {name} {each.comparison} {limit:.4g} is true or false whatever is measured: {name} lies "
                f"{_between(can[name])}."
            )
        hypothesis = case.hypothesis(each.hypothesis)
        assert hypothesis is not None, "checked by `_expected`"
        try:
            rows.append(
                Prediction(
                    hypothesis=hypothesis.id,
                    tool=tool.name,
                    input=pending.input,
                    measure=name,
                    comparison=each.comparison,
                    threshold=limit,
                    counterexample=tool.name == MINIMAL_PAIRS,
                )
            )
        except ValidationError:
            raise UserError(f"{act.name}: the threshold must be a finite number.") from None
    for each, row in zip(expected, rows, strict=True):
        kept = await lab.once(row, hypothesis=row.hypothesis)
        pending.since = kept.created_at if not pending.predictions else max(pending.since, kept.created_at)
        pending.predictions.append(kept.id)
        case.predictions.append(
            Foretold(
                id=kept.id,
                hypothesis=each.hypothesis,
                sentence=kept.sentence,
                counterexample=kept.counterexample,
                measure=kept.measure,
                comparison=kept.comparison,
                threshold=kept.threshold,
            )
        )
        lab.tell(PredictionRegistered(id=kept.id, hypothesis=kept.hypothesis, sentence=kept.sentence))
    pending.why = "; ".join(f"{e.hypothesis} predicts {row.sentence}" for e, row in zip(expected, rows, strict=True))
    case.queue.append(pending)
    case.problem, case.stumbles = "", 0


def known_to(case: Case, lab: Lab) -> set[str]:
    """The words that a small LLM knows the latent to fire on, or not to."""
    rows = [(ran, lab.ledger.get(Experiment, ran.id)) for ran in case.runs]
    return known((ran.line, row) for ran, row in rows if row)


def _between(range: Range) -> str:
    least, greatest = range
    above, below = f"from {least:g}" if least is not None else "", f"up to {greatest:g}" if greatest is not None else ""
    return f"{above} {below}".strip()


def _given(case: Case, act: Act, lab: Lab) -> dict[str, Any]:
    """The arguments of a test, whichever form they came in. UserError when they are in none."""
    if not lab.small(case):
        return act.arguments
    assert case.latent is not None, "this form is about a latent"
    words = offered(lab.context, case.latent, known_to(case, lab))
    try:
        return spelled_out(case, untested(case)[0], act.arguments, lab.context, words)
    except ValidationError:
        raise UserError(f"{act.name}: name the words that fit.") from None


def _expected(case: Case, tool: str, given: Any) -> list[Expected]:
    """What each hypothesis expects of the test. UserError when one is unknown, refuted, named twice, or none is."""
    try:
        expected = [Expected.model_validate(each) for each in given]
    except (ValidationError, TypeError):
        raise UserError(f"{tool}: give 'expect' as a list of hypothesis, comparison and threshold.") from None
    labels = [each.hypothesis for each in expected]
    wrong = [label for label in labels if label not in open_labels(case)]
    if wrong or not labels or len(set(labels)) < len(labels):
        raise UserError(f"{tool}: say once for each of {', '.join(open_labels(case))} what it expects.")
    return expected
