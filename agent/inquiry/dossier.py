"""Everything the ledger holds of an investigation, gathered for whoever shows, exports or replays it."""

from dataclasses import dataclass

from agent.inquiry.brief import brief
from agent.inquiry.history import resolve
from store.ledger import Ledger
from store.support import Evidence
from store.types import (
    Conclusion,
    Experiment,
    Hypothesis,
    Investigation,
    Judgement,
    LLMCall,
    Prediction,
    ToolOffer,
    ToolUse,
)


@dataclass(frozen=True)
class Dossier:
    """One question: its rows, in the order in which they came. `conclusion` is None while it is open."""

    investigation: Investigation
    evidence: Evidence
    uses: tuple[ToolUse, ...]
    offers: tuple[ToolOffer, ...]
    calls: tuple[LLMCall, ...]
    conclusion: Conclusion | None

    def label(self, experiment: str) -> str:
        """E1, E2, ...: how the LLM and a report call the experiment; its short id when it is none of these."""
        ids = list(self.evidence.experiments)
        return f"E{ids.index(experiment) + 1}" if experiment in ids else experiment[:8]

    def predictions(self, hypothesis: Hypothesis) -> list[tuple[Prediction, Judgement | None]]:
        """The predictions of a hypothesis with their verdicts."""
        found = [p for p in self.evidence.predictions.values() if p.hypothesis == hypothesis.id]
        verdict = {judgement.prediction: judgement for judgement in self.evidence.judgements}
        return [(p, verdict.get(p.id)) for p in sorted(found, key=lambda p: p.created_at)]


def dossiers(ledger: Ledger, thread: str | None = None) -> list[Dossier]:
    """Of every investigation, or of those on one thread (its name, or how it begins), oldest first.

    UserError when there is no such thread.
    """
    found = ledger.find(Investigation, **({} if thread is None else {"thread": resolve(ledger, thread)}))
    return [_dossier(ledger, investigation) for investigation in found]


def _dossier(ledger: Ledger, investigation: Investigation) -> Dossier:
    offers = ledger.find(ToolOffer, investigation=investigation.id)
    calls = [call for offer in offers if offer.call and (call := ledger.get(LLMCall, offer.call))]
    conclusions = ledger.find(Conclusion, investigation=investigation.id)
    return Dossier(
        investigation,
        Evidence.of(ledger, investigation.id),
        tuple(ledger.find(ToolUse, investigation=investigation.id)),
        tuple(offers),
        tuple(calls),
        conclusions[-1] if conclusions else None,
    )


def verdict(prediction: Prediction, judgement: Judgement | None) -> str:
    """What became of a prediction, in words."""
    return judgement.words if judgement else "not tested"


def hypothesis_document(dossier: Dossier, hypothesis: Hypothesis) -> dict[str, object]:
    """A hypothesis with its predictions, tests, verdicts and parent, for JSON."""
    return {
        "id": hypothesis.id,
        "claim": hypothesis.claim,
        "about": hypothesis.about,
        "dull": hypothesis.dull,
        "refines": hypothesis.refines,
        "standing": dossier.evidence.standing(hypothesis.id),
        "predictions": [
            {
                "id": prediction.id,
                "sentence": prediction.sentence,
                "counterexample": prediction.counterexample,
                "experiment": judgement.experiment if judgement else None,
                "value": judgement.value if judgement else None,
                "held": judgement.held if judgement else None,
            }
            for prediction, judgement in dossier.predictions(hypothesis)
        ],
    }


def experiment_document(dossier: Dossier, experiment: Experiment) -> dict[str, object]:
    """An experiment in short, with the reason it was made, for JSON."""
    why = next(use.why for use in dossier.uses if use.experiment == experiment.id)
    return {
        "id": experiment.id,
        "label": dossier.label(experiment.id),
        "thread": dossier.investigation.thread,
        "tool": experiment.tool,
        "why": why,
        "verdict": brief(experiment).verdict,
        "seconds": experiment.seconds,
    }
