"""`verify` finds what was changed behind the ledger's back, and only that."""

from datetime import timedelta

import duckdb
import pytest

from store.ledger import Ledger
from store.types import FACTS, Conclusion, Experiment, Hypothesis, Judgement, Prediction, Score
from store.verify import BATCH_ROWS, REFERENCES, verify
from tests.store.examples import every_noun, experiment, explanation, score


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "glossator.duckdb")
    ledger.append(*every_noun())
    return ledger


def tamper(ledger: Ledger, *statements: str) -> None:
    """Edit the file as somebody would who is set on it: drop the triggers first, put them back after."""
    with duckdb.connect(ledger.store.path) as connection:
        triggers = connection.execute("SELECT trigger_name, table_name, sql FROM duckdb_triggers()").fetchall()
        for name, table, _ in triggers:
            connection.execute(f"DROP TRIGGER {name} ON {table}")
        for statement in statements:
            connection.execute(statement)
        for _, _, sql in triggers:
            connection.execute(sql)


def test_a_sound_ledger_has_no_problems(ledger):
    assert verify(ledger) == []
    tamper(ledger)
    assert verify(ledger) == []


def test_more_rows_than_a_batch(ledger):
    ledger.append(*(Hypothesis(about="many", claim=str(n)) for n in range(2 * BATCH_ROWS)))
    assert verify(ledger) == []
    tamper(ledger, f"UPDATE hypotheses SET claim = 'x' WHERE claim = '{BATCH_ROWS + 5}'")
    assert len(verify(ledger)) == 1


@pytest.mark.parametrize(
    ("statement", "table", "what"),
    [
        ("UPDATE scores SET value = low WHERE scorer = 'score_fuzzing'", "scores", "was altered"),
        ("UPDATE scores SET value = 7 WHERE scorer = 'score_fuzzing'", "scores", "not a valid Score"),
        ("UPDATE explanations SET text = 'drakes' WHERE text = 'mallards'", "explanations", "was altered"),
        ("UPDATE experiments SET key = 'f00d' WHERE error IS NULL", "experiments", "gives the key"),
        ("UPDATE llm_calls SET messages = '[]' WHERE reply = ''", "llm_calls", "was altered"),
        (
            "UPDATE llm_calls SET created_at = created_at + INTERVAL 1 MICROSECOND WHERE reply = ''",
            "llm_calls",
            "altered",
        ),
        ("UPDATE reviews SET reviewer = 'you' WHERE reviewer = 'me'", "reviews", "was altered"),
        ("UPDATE predictions SET threshold = 0 WHERE NOT counterexample", "predictions", "was altered"),
        ("INSERT INTO hypotheses SELECT * FROM hypotheses WHERE dull", "hypotheses", "is there 2 times"),
        (
            "INSERT INTO hypotheses VALUES ('0123456789abcdef01234567', now()::TIMESTAMP, 'a', 'b', NULL, NULL, false)",
            "hypotheses",
            "altered",
        ),
    ],
)
def test_a_tampered_row_is_found(ledger, statement, table, what):
    tamper(ledger, statement)
    problems = verify(ledger)
    assert problems
    assert all(problem.where.startswith(table + "/") for problem in problems)
    assert what in problems[0].what


@pytest.mark.parametrize(
    ("deleted", "dangling"),
    [
        ("hypotheses WHERE refines IS NULL AND NOT dull", {"hypotheses"}),
        ("hypotheses WHERE refines IS NOT NULL", {"predictions"}),
        ("predictions WHERE NOT counterexample", {"experiments"}),
        ("experiments WHERE tool = 'explain_latent'", {"explanations", "scores"}),
        ("llm_calls", {"tool_offers"}),
        ("explanations", {"scores", "reviews"}),
    ],
)
def test_a_row_that_was_taken_away_is_missed(ledger, deleted, dangling):
    tamper(ledger, f"DELETE FROM {deleted}")
    problems = verify(ledger)
    assert {problem.where.split("/")[0] for problem in problems} == dangling
    assert all(f"which is not in {deleted.split()[0]}" in problem.what for problem in problems)


def test_a_reference_to_nothing_is_found_even_if_the_row_is_intact(ledger):
    ledger.append(score(explanation("smol/default/99"), "score_detection", 0.5, experiment(seed=99)))
    assert sorted(problem.what.split(",")[0].rsplit(" ", 1)[0] for problem in verify(ledger)) == [
        "names the experiment",
        "names the explanation",
    ]
    assert len(ledger.find(Score)) == 3


def test_lost_triggers_are_reported(ledger):
    with duckdb.connect(ledger.store.path) as connection:
        connection.execute("DROP TRIGGER scores_delete ON scores")
    (problem,) = verify(ledger)
    assert problem.where == "scores"
    assert "refuses DELETE" in problem.what


def rewritten(ledger: Ledger, noun, **changes) -> None:
    """Replaces the one row of `noun` by a changed one whose id fits: a forgery that hashes do not betray."""
    (fact,) = ledger.find(noun)
    forged = fact.model_copy(update=changes)
    tamper(ledger, f"DELETE FROM {noun.table}")
    ledger.append(type(fact)(**dict(forged)))


def test_a_verdict_that_its_rows_do_not_bear_out_is_found(ledger):
    rewritten(ledger, Judgement, held=True)
    problems = verify(ledger)
    assert any("says held: True, its rows say False" in problem.what for problem in problems)


def test_a_test_made_before_its_prediction_is_found(ledger):
    (judgement,) = ledger.find(Judgement)
    prediction, run = ledger.get(Prediction, judgement.prediction), ledger.get(Experiment, judgement.experiment)
    late = prediction.model_copy(update={"created_at": run.created_at + timedelta(seconds=1)})
    late = Prediction(**dict(late))
    ledger.append(late, Judgement.of(late, run))
    (problem,) = verify(ledger)
    assert "registered after its test" in problem.what
    other = Prediction(**{**dict(prediction), "input": {"latent": 8}, "created_at": prediction.created_at})
    ledger.append(other, Judgement.of(other, run))
    assert any("another test than it named" in problem.what for problem in verify(ledger))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"stance": "for"}, "the prediction failed there"),
        ({"evidence": ("nothing",)}, "cites nothing, which is no experiment of this investigation"),
        ({"hypothesis": "nobody"}, "a hypothesis that does not exist"),
    ],
)
def test_a_claim_that_its_evidence_does_not_bear_out_is_found(ledger, changes, what):
    (conclusion,) = ledger.find(Conclusion)
    rewritten(ledger, Conclusion, claims=(conclusion.claims[0].model_copy(update=changes), *conclusion.claims[1:]))
    assert any(what in problem.what for problem in verify(ledger))


def test_every_reference_between_nouns_is_followed(ledger):
    """A field that holds another noun's id is named after it; none may be missing from the list."""
    names = {"hypothesis", "prediction", "experiment", "explanation", "refines", "rewrite", "investigation", "call"}
    fields = {(noun, name) for noun in FACTS for name in noun.model_fields if name in names}
    assert {(noun, column) for noun, column, _ in REFERENCES} == fields
