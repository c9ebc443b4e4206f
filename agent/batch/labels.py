"""A label: one explanation of one latent, with its scores and what a person said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from store.types import LatentId, Score

if TYPE_CHECKING:
    from store.ledger import Ledger


class Sort(StrEnum):
    """Orders of labels; best is the widest margin first, doubtful the narrowest."""

    LATENT = "latent"
    BEST = "best"
    DOUBTFUL = "doubtful"
    DISAGREEMENT = "disagreement"


@dataclass(frozen=True)
class Label:
    """`id` is the explanation's; `scores` are the latest of each scorer."""

    id: str
    latent: str
    text: str
    method: str
    explainer: str
    scores: tuple[Score, ...] = ()
    verdict: str | None = None
    reviewer: str | None = None
    note: str | None = None

    @property
    def index(self) -> int:
        return LatentId.parse(self.latent).index

    @cached_property
    def margin(self) -> float:
        """How far the lower end of the interval lies above `base`, for the scorer where that is least; else -inf.

        So a label of which one score says nothing comes behind every label whose scores all clear their base.
        """
        return min((score.low - base(score) for score in self.scores), default=float("-inf"))

    @property
    def disagreement(self) -> float:
        """Largest difference between the values of two scorers."""
        values = [score.value for score in self.scores] or [0.0]
        return max(values) - min(values)

    def document(self) -> dict[str, Any]:
        """The label as the commands' JSON shows it."""
        return {
            "latent": self.latent,
            "explanation": self.text,
            "method": self.method,
            "explainer": self.explainer,
            "scores": [
                score.model_dump(include={"scorer", "value", "low", "high", "chance", "floor", "n", "unparsed"})
                for score in self.scores
            ],
            "verdict": self.verdict,
            "reviewer": self.reviewer,
            "note": self.note,
            "explanation_id": self.id,
        }


def base(score: Score) -> float:
    """What a score has to beat: the higher of chance and floor."""
    return max(score.chance, score.floor if score.floor is not None else score.chance)


def read(ledger: "Ledger") -> list[Label]:
    """Of every latent, method and explainer the latest label, by latent."""
    scores: dict[str, dict[str, Score]] = {}
    for score in ledger.find(Score):
        scores.setdefault(score.explanation, {})[score.scorer] = score
    columns = "explanation_id, latent, explanation, method, explainer, verdict, reviewer, note"
    _, rows = ledger.sql(f"SELECT {columns} FROM latent_card")
    return [
        Label(id, latent, text, method, explainer, by_scorer(scores.get(id, {}).values()), verdict, reviewer, note)
        for id, latent, text, method, explainer, verdict, reviewer, note in rows
    ]


def by_scorer(scores: Any) -> tuple[Score, ...]:
    """Scores in the order in which they are always shown."""
    return tuple(sorted(scores, key=lambda score: score.scorer))


def select(
    labels: Sequence[Label],
    *,
    words: str = "",
    latent: int | None = None,
    method: str | None = None,
    verdict: str | None = None,
    sort: Sort = Sort.LATENT,
) -> list[Label]:
    """The labels that hold all `words` and match every filter given, sorted; verdict "none" means not reviewed."""
    wanted = words.casefold().split()
    kept = [
        label
        for label in labels
        if all(word in f"{label.text} {label.latent}".casefold() for word in wanted)
        and (latent is None or label.index == latent)
        and (method is None or label.method == method)
        and (verdict is None or (label.verdict or "none") == verdict)
    ]
    match sort:
        case Sort.LATENT:
            return kept
        case Sort.BEST:
            return sorted(kept, key=lambda label: -label.margin)
        case Sort.DOUBTFUL:
            return sorted(kept, key=lambda label: label.margin)
        case Sort.DISAGREEMENT:
            return sorted(kept, key=lambda label: -label.disagreement)
