"""What earlier runs of a batch left in the ledger, so that nothing is labelled or scored twice."""

from agent.batch.labels import Label
from store.ledger import Ledger
from store.types import Score
from tools.workbench.results import blamed


class Earlier:
    """Read once, before a batch starts.

    A run is known by its experiment's key: tool, version, subject with harvest, input and seed. An explanation is also
    known by its explainer and a score by its judge and number of positives, so another LLM labels anew.
    """

    def __init__(self, ledger: Ledger) -> None:
        _, sizes = ledger.sql(
            "SELECT s.id, TRY_CAST(run.input->>'positives' AS INTEGER) "
            "FROM scores s JOIN experiments run ON run.id = s.experiment"
        )
        positives: dict[str, int | None] = dict(sizes)
        self._scores = {
            (score.explanation, score.scorer, score.judge, positives[score.id]): score for score in ledger.find(Score)
        }
        _, explained = ledger.sql(
            "SELECT run.key, e.id, e.latent, e.text, e.method, e.explainer, r.verdict, r.reviewer, r.note "
            "FROM explanations e JOIN experiments run ON run.id = e.experiment "
            "LEFT JOIN (SELECT * FROM reviews QUALIFY row_number() OVER (PARTITION BY explanation "
            "ORDER BY created_at DESC, id) = 1) r ON r.explanation = e.id ORDER BY e.created_at"
        )
        self._labels = {
            (key, explainer): Label(id, latent, text, method, explainer, (), *review)
            for key, id, latent, text, method, explainer, *review in explained
        }
        _, unused = ledger.sql(
            "SELECT key, id FROM experiments WHERE error IS NULL "
            "AND id NOT IN (SELECT experiment FROM explanations WHERE experiment IS NOT NULL) "
            "AND id NOT IN (SELECT experiment FROM scores) ORDER BY created_at"
        )
        self._unused: dict[str, str] = dict(unused)
        _, failed = ledger.sql(
            "SELECT key, error FROM experiments failed WHERE error IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM experiments again WHERE again.key = failed.key AND again.error IS NULL) ORDER BY created_at"
        )
        self._failed: dict[str, str] = dict(failed)

    def label(self, key: str, explainer: str) -> Label | None:
        """The label that this run gave, with its latest review, without its scores."""
        return self._labels.get((key, explainer))

    def score(self, explanation: str, scorer: str, judge: str, positives: int | None) -> Score | None:
        """The latest score of an explanation (its id) by a scorer and judge on so many positives, if they are asked."""
        return self._scores.get((explanation, scorer, judge, positives))

    def unused(self, key: str) -> str | None:
        """The id of a successful run whose explanation or score did not make it into the ledger: a killed batch's."""
        return self._unused.get(key)

    def failure(self, key: str, author: str) -> str | None:
        """Why this run failed, unless it succeeded later, or an LLM was to blame and it was not `author`."""
        reason = self._failed.get(key)
        return reason if reason is not None and blamed(reason) in (None, author) else None
