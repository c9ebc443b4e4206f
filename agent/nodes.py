"""The steps of an investigation: frame, observe, hypothesise, predict, test, judge, refine or conclude.

Each takes the case, does one thing that a crash may cost, and says what comes next. What the LLM does is checked here;
for what it may not do (test before predicting, overrule a verdict) there is no act.
"""

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from agent.inquiry.auditing import AIM, halved, opening
from agent.inquiry.brief import SHOWN_WORDS
from agent.inquiry.events import HypothesisStated, Judged
from agent.inquiry.investigable import named_latents
from agent.inquiry.lab import Lab
from agent.inquiry.measure import NotRun, already, checked, measure
from agent.inquiry.menu import (
    EXAMPLES,
    MINIMAL_PAIRS,
    Enough,
    Finish,
    Form,
    Frame,
    Refine,
    Show,
    State,
    form,
    look,
    looking,
    open_labels,
    test,
    testing,
)
from agent.inquiry.register import known_to, lacking, register
from agent.inquiry.small import (
    RIVAL,
    WORDS,
    Two,
    claimed,
    common,
    offered,
    picking,
    refinement,
    two_hypotheses,
    untested,
)
from agent.state import Case, Stated
from prompts.actions import Act
from store.errors import UserError
from store.text import clean
from store.types import Experiment, Hypothesis, Judgement, Prediction
from tools.workbench.beside import has_base
from tools.workbench.registry import get_tool
from tools.workbench.run import key_of
from tools.workbench.templates import Template, candidates, fitting, quoted

OPENING = ("latent_profile", EXAMPLES)  # how every look at a latent begins
OPENING_SMALL: dict[str, dict[str, Any]] = {WORDS: {"n": SHOWN_WORDS}, EXAMPLES: {"top": 40, "deciles": 20}}
PAIRS = 4  # of prompts, which a behaviour is looked at on
LOCALISING: dict[str, dict[str, Any]] = {  # and at a behaviour that pairs of prompts show
    "contrast_pairs": {},
    "attribution_patching": {"site": "z"},
    "head_profile": {},
}
LOOKS_TERSE, LOOKS_NATIVE = 1, 4  # questions that the LLM may spend on looking around; a small one looks at texts only
SHOWN_CHARACTERS = 4000  # of a full output
SPARE_ASKS = 2  # beyond one for each open hypothesis, to register predictions

M = TypeVar("M", bound=Form)


async def frame(case: Case, lab: Lab) -> None:
    """What is the question about? For a latent the opening looks are queued. A small LLM need not say which it is."""
    named, looks = named_latents(case.question), {}
    template = None if named else fitting(case.question)
    if case.audits:
        framed, looks = Frame(about="behaviour", aim=AIM), opening(has_base(lab.context))
    elif template:
        framed = Frame(about="behaviour", aim=f"find what decides it in the model, on pairs of the template {template}")
        case.contrast = _pairs_of(case.question, template, lab.context.seed)
        looks = LOCALISING
    elif lab.native or len(set(named)) != 1:
        choice = await lab.ask(case, [form("frame", Frame, case)])
        if choice is None or (given := filled(case, choice.acts[0], "frame", Frame)) is None:
            return
        framed = given
    else:
        framed = Frame(about="latent", latent=named[0], aim="say what it does")
    if framed.about == "latent" and framed.latent not in named:
        case.stumble(
            f"The question names {f'latent {named[0]}' if named else 'no latent'}: "
            f"frame it as {f'about latent {named[0]}' if named else 'about behaviour'}."
        )
        return
    if framed.about == "latent":
        case.latent = framed.latent
        looks = {name: {} for name in OPENING}
        if lab.small(case):
            looks = {name: {"half": "explain"} | more for name, more in OPENING_SMALL.items()}
    case.aim = framed.aim
    case.queue = [checked(case, name, input, "the opening look", case.began, lab) for name, input in looks.items()]
    case.goes("observe")


def _pairs_of(question: str, template: Template, seed: int) -> dict[str, Any]:
    """Pairs of the template, the quoted prompt's first where its words are known."""
    asked = quoted(question)
    if asked is None:
        return {"template": template, "n": PAIRS}
    others = [each for each in candidates(template, seed, PAIRS) if each.clean != asked.clean]
    return {"pairs": [each._asdict() for each in (asked, *others[: PAIRS - 1])]}


async def observe(case: Case, lab: Lab) -> None:
    """Makes the next queued look, or asks which; goes on when the LLM has seen enough."""
    if case.queue:
        try:
            await measure(case, case.queue.pop(0), lab)
        except NotRun as refusal:
            case.stumble(str(refusal))
        return
    if case.asked >= (LOOKS_NATIVE if lab.native else 0 if lab.small(case) else LOOKS_TERSE):
        case.goes("conclude" if case.contrast and lab.small(case) else "hypothesise")
        return
    menu = looking(case, not lab.native, lab.roles)
    actions = [look(tool, case, not lab.native) for tool in menu]
    actions.append(form("enough", Enough, case))
    if lab.native and case.runs:
        actions.append(form("show", Show, case))
    choice = await lab.ask(case, actions, [tool.name for tool in menu])
    for act in choice.acts if choice else ():
        if act.name == "enough":
            case.goes("hypothesise")
        elif act.name == "show":
            _show(case, lab, act)
        elif act.name not in {tool.name for tool in menu}:
            case.stumble(_unknown(act, [tool.name for tool in menu]))
        else:
            try:
                asked = halved(get_tool(act.name), act.arguments, testing=False) if case.audits else act.arguments
                pending = checked(case, act.name, asked, "to see more before guessing", case.began, lab)
            except UserError as error:
                case.stumble(str(error))
                continue
            if ran := already(case, pending, lab):
                case.stumble(f"{act.name} with that input was run already: see {ran.label}.")
            else:
                case.queue.append(pending)
                case.problem, case.stumbles = "", 0


def _show(case: Case, lab: Lab, act: Act) -> None:
    """The full output in place of its short form, as far as a prompt has room for it."""
    asked = filled(case, act, "show", Show)
    ran = case.run(asked.experiment) if asked else None
    experiment = lab.ledger.get(Experiment, ran.id) if ran else None
    if ran is None or experiment is None or experiment.output is None:
        case.stumble(f"There is no such output: show one of {', '.join(run.label for run in case.runs if run.ok)}.")
        return
    ran.line = clean(json.dumps(experiment.output, ensure_ascii=False))[:SHOWN_CHARACTERS]


async def hypothesise(case: Case, lab: Lab) -> None:
    """Two or more competing hypotheses, one of them dull; where a small LLM states the others, code states that."""
    small = lab.small(case)
    choice = await lab.ask(case, [two_hypotheses(case) if small else form("state_hypotheses", State, case)])
    model: type[Two | State] = Two if small else State
    if choice is None or (stated := filled(case, choice.acts[0], "state_hypotheses", model)) is None:
        return
    if isinstance(stated, State):
        claims = [claim.strip() for claim in stated.hypotheses]
        dull, account = stated.dull.claim.strip(), f" ({stated.dull.account})"
    else:
        claims, dull, account = [claimed(kind) for kind in stated.hypotheses], RIVAL, ""
    if len({claim.lower() for claim in [*claims, dull]}) <= len(claims):
        case.stumble("Two of the hypotheses are the same: state different ones.")
        return
    for claim in claims:
        await _state(case, lab, claim, None, dull=False)
    if small and case.latent is not None and (piece := common(lab.context, case.latent, SHOWN_WORDS)):
        await _state(case, lab, claimed(f'words that hold "{piece}"'), None, dull=False)
        case.hypotheses[-1].holds = piece
    await _state(case, lab, dull + account, None, dull=True)
    case.goes("predict")


async def predict(case: Case, lab: Lab) -> None:
    """Registers predictions until every open hypothesis has one, a minimal pair is among them, and rivals differ."""
    if lab.small(case):
        await _choose(case, lab)
        return
    missing, menu = lacking(case), testing(case, not lab.native, lab.roles)
    if not missing or not menu or case.asked >= len(open_labels(case)) + SPARE_ASKS:
        case.goes("test")
        return
    case.problem = case.problem or (f"Still needed: {'; '.join(missing)}." if case.asked else "")
    actions = [test(tool, case, not lab.native) for tool in menu]
    choice = await lab.ask(case, actions, [tool.name for tool in menu])
    if choice is None:
        return
    case.problem = ""
    for act in choice.acts:
        if act.name not in {tool.name for tool in menu}:
            case.stumble(_unknown(act, [tool.name for tool in menu]))
            continue
        try:
            await register(case, lab, act)
        except UserError as error:
            case.unused(str(error))  # no stumble: the questions of this step are counted


async def _choose(case: Case, lab: Lab) -> None:
    """A small LLM says of the next hypothesis that waits for a test which new words fit it."""
    waiting = untested(case)
    if not waiting:
        case.goes("test")
        return
    assert case.latent is not None, "this form is about a latent"
    words = offered(lab.context, case.latent, known_to(case, lab))
    if not words:
        case.stop("no new words", mute=False)
        return
    if (piece := waiting[0].holds) is not None:
        act = Act(MINIMAL_PAIRS, {"fits": [word for word in words if piece in word.casefold()]})
    elif choice := await lab.ask(case, [picking(words)], [MINIMAL_PAIRS]):
        act = choice.acts[0]
    else:
        return
    if act.name != MINIMAL_PAIRS:
        case.stumble(_unknown(act, [MINIMAL_PAIRS]))
        return
    try:
        await register(case, lab, act)
    except UserError:
        waiting[0].says = False


async def run_test(case: Case, lab: Lab) -> None:
    """Makes the next test that was predicted about; then the verdicts."""
    if not case.queue:
        case.goes("judge")
        return
    pending = case.queue.pop(0)
    mine = [prediction for prediction in case.predictions if prediction.id in pending.predictions]
    try:
        ran = await measure(case, pending, lab)
    except NotRun as refusal:
        case.refused.append(key_of(pending.tool, pending.input, lab.context))
        for prediction in mine:
            prediction.judged, prediction.note = True, str(refusal)
    else:
        for prediction in mine:
            prediction.run = ran.label


async def judge(case: Case, lab: Lab) -> None:
    """Code decides every prediction by its experiment; nobody else has a say."""
    measured = case.tested
    for foretold in case.predictions:
        ran = case.run(foretold.run) if foretold.run else None
        if foretold.judged or ran is None:
            continue
        prediction, experiment = lab.ledger.get(Prediction, foretold.id), lab.ledger.get(Experiment, ran.id)
        assert prediction is not None, "rows never go away"
        assert experiment is not None, "rows never go away"
        judgement = Judgement.of(prediction, experiment)
        await lab.once(judgement, prediction=prediction.id, experiment=experiment.id)
        foretold.judged, foretold.held = True, judgement.held
        measured = measured or judgement.value is not None
        hypothesis = case.hypothesis(foretold.hypothesis)
        assert hypothesis is not None, "predictions name a hypothesis of the case"
        lab.tell(
            Judged(
                prediction=prediction.id,
                hypothesis=hypothesis.id,
                held=judgement.held,
                sentence=f"{foretold.hypothesis} predicts {foretold.sentence}: {judgement.words}",
            )
        )
    case.quiet = 0 if case.fresh else case.quiet + 1
    case.fresh = False
    case.goes("refine" if measured or lab.small(case) else "predict")


async def refine(case: Case, lab: Lab) -> None:
    """The LLM reads the verdicts and refines a hypothesis, or finishes. A small one is asked only to refine."""
    if lab.small(case):
        if case.told_apart:
            case.goes("conclude")
            return
        if case.round >= lab.limits.rounds:
            case.stop("rounds", mute=False)
            return
    both = [form("finish", Finish, case), form("refine", Refine, case)]
    choice = await lab.ask(case, [refinement(case)] if lab.small(case) else both)
    if choice is None:
        return
    act = choice.acts[0]
    if act.name == "finish":
        if filled(case, act, "finish", Finish):
            case.goes("conclude")
        return
    if (refined := filled(case, act, "refine", Refine)) is None:
        return
    parent, claim = case.hypothesis(refined.of), refined.claim.strip()
    if lab.small(case):
        claim = claimed(claim)
    if parent is None:
        case.stumble(f"There is no hypothesis {refined.of}: name one of {', '.join(h.label for h in case.hypotheses)}.")
    elif any(claim.lower() == h.claim.lower() for h in case.hypotheses):
        if lab.small(case) and case.stumbles:
            case.stop("no other hypothesis", mute=False)  # it would say the same again
            return
        case.stumble("That hypothesis was stated already: state a better one, or finish.")
    elif case.round >= lab.limits.rounds:
        case.stop("rounds", mute=False)
    else:
        await _state(case, lab, claim, parent.id, dull=parent.dull)
        case.round += 1
        case.goes("predict")


def filled(case: Case, act: Act, name: str, model: type[M]) -> M | None:
    """The form that the LLM filled in; None, with the reason for the LLM, when it is another or does not fit."""
    if act.name != name:
        case.stumble(_unknown(act, [name]))
        return None
    try:
        return model.model_validate(act.arguments)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        case.stumble(f"{name} cannot take that: {'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}.")
        return None


def _unknown(act: Act, names: list[str]) -> str:
    return f"There is no {act.name[:60]!r} in this step: choose {', '.join(names)}."


async def _state(case: Case, lab: Lab, claim: str, refines: str | None, *, dull: bool) -> None:
    about = "behaviour" if case.latent is None else str(lab.context.subject.latent(case.latent))
    row = Hypothesis(about=about, claim=claim, refines=refines, investigation=case.investigation, dull=dull)
    row = await lab.once(row, investigation=case.investigation)
    case.hypotheses.append(Stated(label=f"H{len(case.hypotheses) + 1}", id=row.id, claim=claim, dull=dull))
    lab.tell(HypothesisStated(id=row.id, claim=claim, dull=dull))
