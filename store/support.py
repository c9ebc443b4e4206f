"""What an investigation's rows bear out: the one rule by which a cited experiment supports a claim, or does not."""

from dataclasses import dataclass
from typing import Self

from store.ledger import Ledger
from store.types import Claim, Experiment, Hypothesis, Judgement, Prediction, ToolUse


@dataclass(frozen=True)
class Evidence:
    """The rows of one investigation by id, and its judgements, oldest first."""

    hypotheses: dict[str, Hypothesis]
    predictions: dict[str, Prediction]
    experiments: dict[str, Experiment]
    judgements: tuple[Judgement, ...]

    @classmethod
    def of(cls, ledger: Ledger, investigation: str) -> Self:
        hypotheses = {h.id: h for h in ledger.find(Hypothesis, investigation=investigation)}
        predictions = {p.id: p for id in hypotheses for p in ledger.find(Prediction, hypothesis=id)}
        used = dict.fromkeys(use.experiment for use in ledger.find(ToolUse, investigation=investigation))
        experiments = {id: run for id in used if (run := ledger.get(Experiment, id)) is not None}
        judgements = [j for id in predictions for j in ledger.find(Judgement, prediction=id)]
        return cls(hypotheses, predictions, experiments, tuple(sorted(judgements, key=lambda j: j.created_at)))

    def verdicts(self, hypothesis: str) -> list[Judgement]:
        """The judgements of a hypothesis that came out either way."""
        mine = [j for j in self.judgements if self.predictions[j.prediction].hypothesis == hypothesis]
        return [judgement for judgement in mine if judgement.held is not None]

    def standing(self, hypothesis: str) -> str:
        """ "refuted" when a prediction failed, "supported" when some were judged and all held, else "untested"."""
        verdicts = self.verdicts(hypothesis)
        if any(not judgement.held for judgement in verdicts):
            return "refuted"
        return "supported" if verdicts else "untested"

    def faults(self, claim: Claim) -> list[str]:
        """What is wrong with a claim's evidence, a sentence each; none when it bears the claim out.

        For a hypothesis speak experiments on which a prediction of it held, as long as none of its predictions
        failed; against it, those on which one failed. Who names no hypothesis tells what was seen, and cites runs that
        succeeded and decided nothing. What a verdict contradicts is not even a conjecture.
        """
        if claim.stance is not None and claim.hypothesis not in self.hypotheses:
            return [f"speaks {claim.stance} a hypothesis that does not exist"]
        found = [fault for id in claim.evidence if (fault := self._fault(claim, id))]
        standing = self.standing(claim.hypothesis or "")
        if claim.stance == "for" and standing == "refuted":
            found.append("speaks for a hypothesis one of whose predictions failed")
        if claim.stance == "against" and standing == "supported":
            found.append("speaks against a hypothesis all of whose predictions held")
        return found

    def _fault(self, claim: Claim, id: str) -> str | None:
        run = self.experiments.get(id)
        if run is None:
            return f"cites {id}, which is no experiment of this investigation"
        if run.error is not None:
            return f"cites {id}, which failed: {run.error}"
        if claim.stance is None:
            decided = any(j.experiment == id and j.held is not None for j in self.judgements)
            return f"cites {id}, which decided predictions: name their hypothesis and a stance" if decided else None
        verdicts = [j for j in self.verdicts(claim.hypothesis or "") if j.experiment == id]
        if not verdicts:
            return f"cites {id}, which tested no prediction of that hypothesis"
        if claim.stance == "for" and not all(j.held for j in verdicts):
            return f"cites {id} for the hypothesis, but the prediction failed there"
        if claim.stance == "against" and all(j.held for j in verdicts):
            return f"cites {id} against the hypothesis, but the prediction held there"
        return None
