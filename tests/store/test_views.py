"""Each view answers its question."""

from datetime import UTC, datetime

import pytest

from store.ledger import Ledger
from store.types import Review, Verdict
from tests.store.examples import LATENT, experiment, explanation, llm_call, score

DAY = [datetime(2026, 3, day) for day in range(1, 10)]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "glossator.duckdb")


def test_scoreboard_has_the_latest_score_per_scorer_of_the_latest_explanation(ledger):
    run = experiment()
    old, new = explanation(text="old", created_at=DAY[0]), explanation(text="new", created_at=DAY[1])
    other = explanation(text="by graph", method="neuron_to_graph", explainer="none")
    tenth = explanation(LATENT.replace("/7", "/10"), text="tenth")
    ledger.append(
        run,
        old,
        new,
        other,
        tenth,
        score(old, "score_detection", 0.9, run),
        score(new, "score_detection", 0.6, run, created_at=DAY[2]),
        score(new, "score_detection", 0.7, run, created_at=DAY[3], unparsed=4),
        score(new, "score_fuzzing", 0.8, run, floor=None),
        score(other, "score_prediction", 0.5, run),
        score(tenth, "score_detection", 0.55, run),
        Review(explanation=new.id, verdict=Verdict.REJECT, reviewer="a", created_at=DAY[4]),
        Review(explanation=new.id, verdict=Verdict.ACCEPT, reviewer="b", created_at=DAY[5]),
    )
    rows = ledger.view("scoreboard")
    assert [(row["explanation"], row["scorer"], row["value"], row["verdict"]) for row in rows] == [
        ("new", "score_detection", 0.7, "accept"),
        ("new", "score_fuzzing", 0.8, "accept"),
        ("by graph", "score_prediction", 0.5, None),
        ("tenth", "score_detection", 0.55, None),  # index 10 after index 7, as numbers
    ]
    first = rows[0]
    assert (first["low"], first["high"], first["chance"], first["floor"]) == (0.7 - 0.1, 0.7 + 0.1, 0.5, 0.51)
    assert (first["n"], first["unparsed"], first["explanation_id"]) == (40, 4, new.id)
    assert rows[1]["floor"] is None


def test_latent_card_gathers_evidence_scores_review_and_failures(ledger):
    run, told = experiment(), explanation(graph={"root": 1})
    unscored = explanation(method="explain_by_output")
    ledger.append(
        run,
        told,
        unscored,
        experiment(tool="score_fuzzing", error="no windows"),
        score(told, "score_fuzzing", 0.8, run),
        score(told, "score_detection", 0.7, run),
        Review(explanation=told.id, verdict=Verdict.REJECT, reviewer="me", note="too broad"),
    )
    by_output, card = ledger.view("latent_card", latent=LATENT)
    assert by_output["scores"] == []
    assert [(entry["scorer"], entry["value"]) for entry in card["scores"]] == [
        ("score_detection", 0.7),
        ("score_fuzzing", 0.8),
    ]
    assert (card["verdict"], card["reviewer"], card["note"]) == ("reject", "me", "too broad")
    assert card["graph"] == {"root": 1}
    assert card["evidence"] == []
    assert card["failed_runs"] == 1


def test_unreviewed_puts_the_most_doubtful_first_and_drops_the_reviewed(ledger):
    run = experiment()
    agreed, disputed, wide, bare, done = (explanation(f"smol/default/{n}") for n in range(5))
    ledger.append(
        *(run, agreed, disputed, wide, bare, done),
        *(score(agreed, scorer, 0.7, run) for scorer in ("a", "b")),
        *(score(disputed, scorer, value, run) for scorer, value in (("a", 0.5), ("b", 0.9))),
        *(score(wide, scorer, 0.7, run, low=0.2) for scorer in ("a", "b")),
        score(done, "a", 0.7, run),
        Review(explanation=done.id, verdict=Verdict.ACCEPT, reviewer="me"),
    )
    rows = ledger.view("unreviewed")
    assert [row["explanation_id"] for row in rows] == [fact.id for fact in (disputed, wide, agreed, bare)]
    assert rows[0]["disagreement"] == pytest.approx(0.4)
    assert rows[0]["mean"] == pytest.approx(0.7)
    assert rows[-1]["scorers"] == 0


def test_failures_say_why_and_whether_a_later_run_succeeded(ledger):
    dead = experiment(error="the latent never fires", created_at=DAY[0])
    flaky = experiment(seed=1, error="unparseable reply", created_at=DAY[1])
    ledger.append(dead, flaky, experiment(seed=1, created_at=DAY[2]))
    assert [(row["error"], row["resolved"], row["experiment"]) for row in ledger.view("failures")] == [
        ("unparseable reply", True, flaky.id),
        ("the latent never fires", False, dead.id),
    ]
    assert [row["latent"] for row in ledger.view("failures", resolved=False)] == [LATENT]


def test_prompt_usage_and_costs_keep_unknown_prices_apart(ledger):
    ledger.append(
        llm_call(created_at=DAY[0], usd=0.25),
        llm_call(created_at=DAY[0], usd=None, finish_reason="length"),
        llm_call(created_at=DAY[1], usd=0.5),
        llm_call(created_at=DAY[1], model="local", usd=None),
    )
    priced, unpriced = sorted(ledger.view("prompt_usage"), key=lambda row: row["model"], reverse=True)
    assert (priced["calls"], priced["usd"], priced["unpriced"], priced["cut_off"]) == (3, 0.75, 1, 1)
    assert (priced["prompt_tokens"], priced["completion_tokens"]) == (30, 3)
    assert (priced["first_call"], priced["last_call"]) == (DAY[0], DAY[1])
    assert (unpriced["usd"], unpriced["unpriced"]) == (None, 1)
    costs = {(row["day"], row["model"]): (row["calls"], row["usd"], row["unpriced"]) for row in ledger.view("costs")}
    assert costs == {
        (DAY[0].date(), "qwen"): (2, 0.25, 1),
        (DAY[1].date(), "local"): (1, None, 1),
        (DAY[1].date(), "qwen"): (1, 0.5, 0),
    }


def test_views_follow_the_ledger(ledger):
    """A view is a question, not a copy."""
    assert ledger.view("costs") == []
    ledger.append(llm_call(usd=1.0))
    assert [row["usd"] for row in ledger.view("costs", day=datetime.now(UTC).date())] == [1.0]
