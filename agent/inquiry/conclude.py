"""The last step: a claim a sentence, each with its evidence, checked by code before it stands."""

from typing import Literal

from agent.inquiry.events import Concluded
from agent.inquiry.lab import Lab
from agent.inquiry.menu import MINIMAL_PAIRS, Conclude, Told, form
from agent.inquiry.small import asks_more
from agent.nodes import filled
from agent.state import Case, Stated
from store.support import Evidence
from store.types import Claim, Conclusion

TRIES = 3
SEEN = "Seen: "
MEASURED = "No hypothesis was tested: this is what was measured, and the answer is to be read off it."
UNTESTED = "untested"  # the reason of an end without the test that a conclusion needs


async def conclude(case: Case, lab: Lab) -> None:
    """Asks for claims until they stand; what does not after three tries loses its evidence and is a conjecture.

    What contradicts a verdict is left out, and code tells every verdict in a sentence of its own, whatever the LLM
    says, and which test was never made. A small LLM is not asked: what it claims is its hypothesis that stands.
    """
    evidence = Evidence.of(lab.ledger, case.investigation)
    stated: list[Claim] = []
    if lab.small(case):
        stated = [
            _standing(h, evidence) for h in case.hypotheses if evidence.standing(h.id) == "supported" and not h.dull
        ]
    elif not case.mute and case.stumbles < TRIES:
        choice = await lab.ask(case, [form("conclude", Conclude, case)])
        given = filled(case, choice.acts[0], "conclude", Conclude) if choice else None
        if given is None:
            return
        stated, faults = _read(case, evidence, given)
        if faults:
            case.draft = stated
            case.stumble(" ".join(faults))
            return
    else:
        if not case.draft:
            case.stop("unusable replies", mute=True)
        stated = [_proven(claim, evidence) for claim in case.draft if not _overruled(claim, evidence)]
    lacking = _lacking(case, evidence)
    stated += [_verdict(h.id, h.claim, h.dull, evidence) for h in case.hypotheses] + lacking
    if case.contrast and not case.hypotheses and (looks := tuple(run.id for run in case.runs if run.ok)):
        stated.append(Claim(sentence=MEASURED, evidence=looks, author="code"))
    if not stated:
        stated = [_unknown()]
    if not any(claim.stance == "for" for claim in stated):
        stated += _seen(case)
    if lab.small(case):
        stated = _answered(case) + stated + _together(stated)
    reason = case.ended or (UNTESTED if lacking else "concluded")
    row = Conclusion(investigation=case.investigation, reason=reason, claims=tuple(stated))
    row = await lab.once(row, investigation=case.investigation)
    lab.tell(Concluded(thread=case.thread, reason=row.reason, claims=list(row.claims)))
    case.history.append(f"{case.question} — {' '.join(claim.sentence for claim in row.claims)}"[:600])
    case.goes("end")


def _answered(case: Case) -> list[Claim]:
    """What was answered, where the question asks more than a small LLM's form can answer."""
    looks = tuple(run.id for run in case.runs if run.ok)[:1]
    if case.latent is None or not asks_more(case.question):
        return []
    sentence = f"Answered is no more than what latent {case.latent} fires on: the question asks for something else."
    return [Claim(sentence=sentence, evidence=looks, conjecture=not looks, author="code")]


def _standing(hypothesis: Stated, evidence: Evidence) -> Claim:
    """A small LLM's hypothesis that has passed its tests, in its own words."""
    by = tuple(dict.fromkeys(judgement.experiment for judgement in evidence.verdicts(hypothesis.id)))
    sentence = f"{hypothesis.claim[:1].upper()}{hypothesis.claim[1:].rstrip('.')}."
    author: Literal["llm", "code"] = "llm" if hypothesis.holds is None else "code"
    return Claim(sentence=sentence, evidence=by, hypothesis=hypothesis.id, stance="for", author=author)


def _together(stated: list[Claim]) -> list[Claim]:
    """That hypotheses which all hold were not told apart: a small LLM's are tested one by one."""
    held = {claim.hypothesis for claim in stated if claim.stance == "for"}
    if len(held) < 2:
        return []
    sentence = (
        f"{len(held)} hypotheses held, each by itself: no test told them apart, and one may hold for the other's sake."
    )
    return [Claim(sentence=sentence, conjecture=True, author="code")]


def _read(case: Case, evidence: Evidence, given: Conclude) -> tuple[list[Claim], list[str]]:
    """The claims with ids for labels, and what is wrong with them, a sentence each for the LLM."""
    claims, faults = [], []
    for number, each in enumerate(given.claims, 1):
        cited = {label: _id(case, label) for label in each.evidence}
        hypothesis = case.hypothesis(each.hypothesis) if each.hypothesis else None
        claim = _claim(each, tuple(id for id in cited.values() if id), hypothesis.id if hypothesis else None)
        claims.append(claim)
        found = [f"cites {label}, which does not exist" for label, id in cited.items() if id is None]
        if each.hypothesis and hypothesis is None:
            found.append(f"names {each.hypothesis}, which does not exist")
        if hypothesis and each.stance is None:
            found.append(f"names {hypothesis.label}: say whether it is for or against it")
        found += evidence.faults(claim)
        faults += [f"Claim {number} {_labelled(case, fault)}." for fault in found]
    return claims, faults


def _claim(given: Told, evidence: tuple[str, ...], hypothesis: str | None) -> Claim:
    evidence = tuple(dict.fromkeys(evidence))
    stance = given.stance if hypothesis else None
    return Claim(
        sentence=given.sentence.strip(),
        evidence=evidence,
        hypothesis=hypothesis if stance else None,
        stance=stance,
        conjecture=not evidence,
    )


def _id(case: Case, label: str) -> str | None:
    run = case.run(label.strip())
    return run.id if run else None


def _labelled(case: Case, sentence: str) -> str:
    for run in case.runs:
        sentence = sentence.replace(run.id, run.label)
    return sentence


def _proven(claim: Claim, evidence: Evidence) -> Claim:
    """The claim as it stands: with its evidence when that bears it out, without any else."""
    if not evidence.faults(claim):
        return claim
    return Claim(sentence=claim.sentence, conjecture=True, author=claim.author)


def _overruled(claim: Claim, evidence: Evidence) -> bool:
    """Whether the claim says the opposite of what code decided."""
    opposite = {"supported": "against", "refuted": "for"}
    return claim.stance is not None and opposite.get(evidence.standing(claim.hypothesis or "")) == claim.stance


def _lacking(case: Case, evidence: Evidence) -> list[Claim]:
    """That the decisive kind of test is missing: of a latent one on minimal pairs, of behaviour any beside controls."""
    decided = [evidence.predictions[j.prediction] for h in case.hypotheses for j in evidence.verdicts(h.id)]
    if not case.hypotheses or any(case.latent is None or prediction.counterexample for prediction in decided):
        return []
    made = any(run.ok and run.tool == MINIMAL_PAIRS for run in case.runs)
    pairs = "No test on minimal pairs was clear of chance." if made else "No minimal pair was tested."
    sentence = pairs if case.latent is not None else "No test was clear of its controls."
    return [Claim(sentence=sentence, conjecture=True, author="code")]


def _verdict(id: str, claim: str, dull: bool, evidence: Evidence) -> Claim:
    kind = "dull hypothesis" if dull else "hypothesis"
    verdicts = evidence.verdicts(id)
    failed = [judgement for judgement in verdicts if not judgement.held]
    still = ", so it is not excluded" if dull else ""
    if not verdicts:
        sentence = f'The {kind} "{claim}" was not decided by any test{still}.'
        return Claim(sentence=sentence, conjecture=True, author="code")
    cited = tuple(dict.fromkeys(judgement.experiment for judgement in failed or verdicts))
    n = len(verdicts)
    by = _chance(cited, evidence)
    if failed:
        sentence = f'The {kind} "{claim}" failed {len(failed)} of {n} registered predictions{by}.'
        return Claim(sentence=sentence, evidence=cited, hypothesis=id, stance="against", author="code")
    sentence = f'The {kind} "{claim}" passed {n} of {n} registered predictions{by}{still}.'
    return Claim(sentence=sentence, evidence=cited, hypothesis=id, stance="for", author="code")


def _chance(cited: tuple[str, ...], evidence: Evidence) -> str:
    """Which of the investigation's tests on minimal pairs the cited ones are, and what chance had to do with them."""
    tests = [run for run in evidence.experiments.values() if run.tool == MINIMAL_PAIRS and run.output]
    told = [
        f"test {number} of {len(tests)}: p {run.output['p']:.2g}, {run.input['level']:.2g} at most"
        for number, run in enumerate(tests, 1)
        if run.id in cited and run.output and run.input.get("level")
    ]
    return f" ({'; '.join(told)})" if told else ""


def _seen(case: Case) -> list[Claim]:
    """What the first look showed, or all that a behaviour was localised by: all that is known where no hypothesis
    stands."""
    looks = [run for run in case.runs if run.ok and not any(p.run == run.label for p in case.predictions)]
    return [
        Claim(sentence=f"{SEEN}{run.line}", evidence=(run.id,), author="code")
        for run in (looks if case.contrast else looks[:1])
    ]


def _unknown() -> Claim:
    return Claim(
        sentence="No hypothesis was stated before the end, so nothing is known.", conjecture=True, author="code"
    )
