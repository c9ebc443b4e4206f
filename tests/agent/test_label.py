"""The batch: what it writes, that it goes on where it was killed, that it keeps to its budget, how it reads."""

import fcntl
import signal
import time
from collections.abc import Callable

import pytest

from store.types import Experiment, Explanation, LLMCall, Score
from store.verify import verify
from tests.agent.conftest import Commands
from tests.agent.planted_cli import Running
from tests.stub_llm import Stub
from tests.tools.world import ANIMAL, COLOUR, DEAD, EXCEPT

Start = Callable[..., Running]
LABELLED = f"{EXCEPT},{COLOUR},{ANIMAL}"
COUNTS = {
    "experiments": "SELECT count(*), count(DISTINCT key) FROM experiments",
    "explanations": "SELECT count(*), count(DISTINCT (latent, method)) FROM explanations",
    "scores": "SELECT count(*), count(DISTINCT (explanation, scorer)) FROM scores",
    "llm_calls": "SELECT count(*), count(DISTINCT request) FROM llm_calls",
}


def test_a_batch_explains_scores_and_ends_with_a_table(world: Commands, llm: Stub) -> None:
    outcome = world("label", "--latents", LABELLED)
    assert outcome.code == 0, outcome.err
    words = " ".join(outcome.out.split())
    assert "chance 0.50" in words
    assert "«red»" in words or "«blue»" in words or "«green»" in words
    assert "3 of 3 latents labelled" in words
    explanations = world.ledger.find(Explanation)
    assert len(explanations) == 3
    scores = world.ledger.find(Score)
    assert {score.scorer for score in scores} == {"score_detection", "score_fuzzing"}
    by = {(score.explanation, score.scorer): score for score in scores}
    for explanation in explanations:
        detection = by[explanation.id, "score_detection"]
        assert detection.floor is not None
        assert detection.low <= detection.value <= detection.high
        assert f"{detection.value:.2f}" in words
    colour = next(e for e in explanations if e.latent.endswith(f"/{COLOUR}"))
    assert by[colour.id, "score_detection"].value == 1.0  # the stub's judge looks for the words of the explanation
    assert (by[colour.id, "score_detection"].floor or 0) < 0.8
    assert verify(world.ledger) == []


def test_json_is_one_document_with_everything(world: Commands, llm: Stub) -> None:
    found = world("label", "--latents", f"{COLOUR},{ANIMAL},{DEAD}", "--json").json
    assert (found["asked"], found["labelled"], found["failed"], found["stopped"]) == (3, 2, 1, None)
    assert found["cost"]["calls"] == llm.stats()["requests"]
    label = found["labels"][0]
    assert label.keys() >= {"latent", "explanation", "method", "scores", "examples"}
    assert len(label["examples"]) == 2
    assert label["scores"][0].keys() == {"scorer", "value", "low", "high", "chance", "floor", "n", "unparsed"}
    assert "dead" in found["failures"][0]["reason"]


def test_a_second_run_asks_and_writes_nothing(world: Commands, llm: Stub) -> None:
    first = world("label", "--latents", f"{LABELLED},{DEAD}", "--json").json
    before, requests = {name: world.rows(query) for name, query in COUNTS.items()}, llm.stats()["requests"]
    second = world("label", "--latents", f"{LABELLED},{DEAD}", "--json").json
    assert {name: world.rows(query) for name, query in COUNTS.items()} == before
    assert llm.stats()["requests"] == requests
    assert second["earlier"] == 3
    assert second["labels"] == first["labels"]
    assert second["failures"] == first["failures"]


def test_another_llm_labels_anew(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    world("label", "--latents", f"{COLOUR},{ANIMAL}")
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "another")
    world("label", "--latents", f"{COLOUR},{ANIMAL}")
    assert {e.explainer for e in world.ledger.find(Explanation)} == {"stub", "another"}
    assert len(world.ledger.find(Explanation)) == 4
    assert len(world.ledger.find(Score)) == 8


def test_another_llm_is_asked_where_one_failed(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    llm.configure(behaviour="refusal")
    assert len(world("label", "--latents", f"{COLOUR},{DEAD}", "--json").json["failures"]) == 2
    llm.configure(behaviour="words")
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "another")
    found = world("label", "--latents", f"{COLOUR},{DEAD}", "--json").json
    assert [label["explainer"] for label in found["labels"]] == ["another"]
    assert [failure["latent"].rpartition("/")[2] for failure in found["failures"]] == [str(DEAD)]


def test_one_batch_at_a_time(world: Commands, llm: Stub) -> None:
    with (world.workspace / "label.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another glossator label is at work" in world("label", "--latents", COLOUR).sentence
    assert llm.stats()["requests"] == 0
    assert world("label", "--latents", COLOUR).code == 0


def test_a_label_is_shown_with_its_latest_review(world: Commands, llm: Stub) -> None:
    command = ("label", "--latents", f"{COLOUR},{ANIMAL}", "--json")
    label = world(*command).json["labels"][0]
    for verdict, reviewer in (("reject", "Ada"), ("accept", "Bob")):
        world("review", verdict, label["explanation_id"], "--reviewer", reviewer, "--note", "clear")
    reviewed, other = world(*command).json["labels"]
    assert reviewed == label | {"verdict": "accept", "reviewer": "Bob", "note": "clear"}
    assert (other["verdict"], other["reviewer"], other["note"]) == (None, None, None)


def test_a_capable_llm_is_asked_anew(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    world("label", "--latents", f"{COLOUR},{ANIMAL}")
    monkeypatch.setenv("GLOSSATOR_JUDGE_CAPABLE", "true")
    world("label", "--latents", f"{COLOUR},{ANIMAL}")
    assert (len(world.ledger.find(Explanation)), len(world.ledger.find(Score))) == (2, 8)
    monkeypatch.setenv("GLOSSATOR_EXPLAINER_CAPABLE", "true")
    world("label", "--latents", f"{COLOUR},{ANIMAL}")
    runs = world.ledger.find(Experiment, tool="explain_latent")
    assert sorted(run.input["windows"] for run in runs) == [10, 10, 40, 40]


def test_one_latent_gets_its_floor_from_a_companion(world: Commands, llm: Stub) -> None:
    found = world("label", "--latents", COLOUR, "--json").json
    assert [label["latent"].rpartition("/")[2] for label in found["labels"]] == [str(COLOUR)]
    assert all(score["floor"] is not None for score in found["labels"][0]["scores"])
    assert found["failures"] == []


def test_a_failure_is_a_row_and_never_a_score(world: Commands, llm: Stub) -> None:
    llm.configure(behaviour="refusal")
    outcome = world("label", "--latents", f"{COLOUR},{DEAD}", "--json")
    assert outcome.code == 0
    assert outcome.json["labels"] == []
    failures = world.ledger.view("failures")
    assert {row["latent"].rpartition("/")[2] for row in failures} == {str(COLOUR), str(DEAD)}
    assert any("declined" in row["error"] for row in failures)
    assert world.ledger.find(Score) == []
    assert world.ledger.find(Explanation) == []


def test_a_failure_is_tried_again_only_when_asked(world: Commands, llm: Stub) -> None:
    llm.configure(behaviour="empty")
    world("label", "--latents", COLOUR)
    runs = len(world.ledger.find(Experiment, tool="explain_latent"))
    world("label", "--latents", COLOUR)
    assert len(world.ledger.find(Experiment, tool="explain_latent")) == runs
    llm.configure(behaviour="words")
    again = world("label", "--latents", COLOUR, "--retry-failed", "--json").json
    assert again["failures"] == []  # the empty reply in the cache was not taken for an answer
    assert again["labels"][0]["explanation"]


def test_a_graph_is_scored_by_its_predictions_beside_words(world: Commands, llm: Stub) -> None:
    found = world("label", "--latents", f"{COLOUR},{ANIMAL}", "--explainer", "neuron_to_graph,explain_latent",
                  "--scorers", "prediction", "--json").json  # fmt: skip
    scorers = {label["method"]: [score["scorer"] for score in label["scores"]] for label in found["labels"]}
    assert scorers == {"neuron_to_graph": ["score_prediction"], "explain_latent": []}
    assert all(s["floor"] < s["value"] for label in found["labels"] for s in label["scores"])


def test_the_budget_ends_the_batch_early_and_a_second_run_goes_on(world: Commands, llm: Stub) -> None:
    first = world("label", "--latents", LABELLED, "--max-calls", "60", "--json")
    assert first.code == 0
    assert "60 calls" in first.json["stopped"]
    assert llm.stats()["requests"] == 60
    second = world("label", "--latents", LABELLED, "--json").json
    assert second["stopped"] is None
    assert all(len(label["scores"]) == 2 for label in second["labels"])
    stats = llm.stats()
    assert stats["requests"] == stats["distinct"]


def test_dollars_are_a_limit_too(world: Commands, llm: Stub) -> None:
    found = world("label", "--latents", LABELLED, "--max-usd", "0.02", "--json").json
    assert "0.02 USD" in found["stopped"]
    assert 0 < found["cost"]["usd"] <= 0.02


@pytest.mark.parametrize("requests", [1, 30, 250])
def test_killed_at_any_moment_it_goes_on(requests: int, world: Commands, llm: Stub, background: Start) -> None:
    llm.configure(latency_s=0.05)
    killed = background(world.folder, "label", "--latents", LABELLED, "--json")
    _wait_for_requests(llm, requests, killed)
    killed.signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    llm.configure(latency_s=0)
    found = world("label", "--latents", LABELLED, "--json").json
    assert (found["labelled"], found["scored"]) == (3, 3)
    for rows, distinct in (world.rows(query)[0] for query in COUNTS.values()):
        assert rows == distinct
    stats = llm.stats()
    in_flight = 8  # replies that the killed process never received
    assert stats["requests"] <= stats["distinct"] + in_flight
    assert len(world.ledger.find(LLMCall)) == stats["distinct"]
    assert verify(world.ledger) == []


def test_interrupted_it_says_so_and_keeps_what_it_has(world: Commands, llm: Stub, background: Start) -> None:
    llm.configure(latency_s=0.05)
    stopped = background(world.folder, "label", "--latents", LABELLED)
    _wait_for_requests(llm, 30, stopped)
    stopped.signal(signal.SIGINT)
    assert (stopped.wait(), stopped.out) == (130, "")
    assert "Traceback" not in stopped.err
    assert stopped.err.splitlines()[-1].startswith("Interrupted; what was finished is kept")
    llm.configure(latency_s=0)
    assert world("label", "--latents", LABELLED, "--json").json["scored"] == 3
    stats = llm.stats()
    assert stats["requests"] == stats["distinct"] == len(world.ledger.find(LLMCall))


def test_a_lost_outcome_is_taken_from_its_experiment(
    world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between an experiment and its explanation, the batch does not run the experiment again."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tools.workbench.results.explanation_of", die)
        assert world("label", "--latents", LABELLED).code == 130
    assert world.ledger.find(Explanation) == []
    assert world.ledger.find(Experiment)
    assert world("label", "--latents", LABELLED, "--json").json["scored"] == 3
    assert world.rows(COUNTS["experiments"]) == [(9, 9)]


def _wait_for_requests(stub: Stub, requests: int, command: Running) -> None:
    deadline = time.monotonic() + 120
    while stub.stats()["requests"] < requests:
        assert command.process.is_alive(), command.err
        assert time.monotonic() < deadline
        time.sleep(0.02)
