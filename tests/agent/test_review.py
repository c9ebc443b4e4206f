"""Reviewing: verdicts are new rows with the reviewer's name, and the desk is a way to give them."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from agent.batch.labels import Sort, read, select
from agent.review.cards import decide
from agent.review.desk import Desk
from store.errors import UserError
from store.ledger import Ledger
from store.types import ActivationExample, Experiment, Explanation, Review, Score, Verdict
from store.verify import verify
from tests.agent.conftest import Commands

NO_FILTERS = {"words": "", "latent": None, "method": None, "verdict": None, "sort": Sort.LATENT}
LABELS = (  # latent, explanation, (detection, fuzzing)
    (7, "days of the week", (0.95, 0.90)),
    (12, "the word \x1b[31mexcept\x1b[0m", (0.60, 0.90)),
    (3, "closing brackets", (0.52, 0.50)),
)


def experiment(tool: str, latent: str, input: dict[str, Any]) -> Experiment:
    return Experiment(tool=tool, version=1, subject="s", input=input, seed=0, latent=latent, output={}, seconds=1,
                      device="cpu")  # fmt: skip


@pytest.fixture
def labelled(run: Commands) -> Ledger:
    """A store with three labels, each with two scores."""
    facts: list[Any] = []
    for index, text, values in LABELS:
        latent = f"model/dictionary/{index}"
        explained = experiment("explain_latent", latent, {"latent": index})
        example = ActivationExample(document=1, start=0, tokens=(" on", " Monday"), activations=(0.0, 8.0))
        explanation = Explanation(latent=latent, text=text, method="explain_latent", explainer="stub",
                                  experiment=explained.id, evidence=(example,))  # fmt: skip
        facts += [explained, explanation]
        for scorer, value in zip(("score_detection", "score_fuzzing"), values, strict=True):
            scored = experiment(scorer, latent, {"latent": index, "text": text})
            facts += [scored, Score(explanation=explanation.id, experiment=scored.id, scorer=scorer, judge="stub",
                                    value=value, low=value - 0.1, high=min(1, value + 0.1), chance=0.5, floor=0.52,
                                    n=40, unparsed=1)]  # fmt: skip
    run.ledger.append(*facts)
    return run.ledger


def id_of(ledger: Ledger, index: int) -> str:
    return ledger.find(Explanation, latent=f"model/dictionary/{index}")[0].id


def test_json_lists_every_label_with_its_scores(run: Commands, labelled: Ledger) -> None:
    found = run("review", "--json").json
    assert [label["latent"] for label in found] == [f"model/dictionary/{index}" for index in (3, 7, 12)]
    assert found[1] == {
        "latent": "model/dictionary/7",
        "explanation": "days of the week",
        "method": "explain_latent",
        "explainer": "stub",
        "scores": [
            {"scorer": "score_detection", "value": 0.95, "low": pytest.approx(0.85), "high": 1, "chance": 0.5,
             "floor": 0.52, "n": 40, "unparsed": 1},
            {"scorer": "score_fuzzing", "value": 0.9, "low": pytest.approx(0.8), "high": 1, "chance": 0.5,
             "floor": 0.52, "n": 40, "unparsed": 1},
        ],
        "verdict": None,
        "reviewer": None,
        "note": None,
        "explanation_id": id_of(labelled, 7),
    }  # fmt: skip


def test_filters_and_orders(run: Commands, labelled: Ledger) -> None:
    def shown(*options: object) -> list[int]:
        return [int(label["latent"].rpartition("/")[2]) for label in run("review", "--json", *options).json]

    assert shown("--words", "the week") == [7]
    assert shown("--latent", 12) == [12]
    assert shown("--sort", "best") == [7, 12, 3]
    assert shown("--sort", "doubtful", "--limit", 1) == [3]
    assert shown("--sort", "disagreement")[0] == 12
    run("review", "reject", id_of(labelled, 3))
    assert shown("--verdict", "none") == [7, 12]
    assert shown("--verdict", "reject") == [3]


def test_the_scoreboard_is_readable_and_harmless(run: Commands, labelled: Ledger) -> None:
    out = run("review").out
    assert "days of the week" in out
    assert "0.95" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_a_verdict_is_a_new_row(verdict: str, run: Commands, labelled: Ledger) -> None:
    id = id_of(labelled, 7)
    done = run("review", verdict, id[:10], "--reviewer", "Ada", "--note", "clear", "--json").json
    (review,) = labelled.find(Review)
    assert (review.id, review.explanation, review.verdict, review.reviewer, review.note) == (
        done["id"], id, verdict, "Ada", "clear",
    )  # fmt: skip
    assert verify(labelled) == []


def test_options_before_the_verdict_count_too(run: Commands, labelled: Ledger) -> None:
    id = id_of(labelled, 7)
    (run.folder / "elsewhere").mkdir()
    run.workspace.rename(run.folder / "elsewhere" / "ws")
    done = run("review", "--reviewer", "Ann", "--workspace", "elsewhere/ws", "--json", "accept", id).json
    assert done["reviewer"] == "Ann"
    again = run("review", "--reviewer", "Ann", "--workspace", "elsewhere/ws", "reject", id, "--reviewer", "Bob")
    assert "by Bob" in again.out
    assert not run.workspace.exists()
    assert "leave --words out" in run("review", "--words", "week", "accept", id).sentence


def test_a_rewrite_keeps_the_old_and_adds_the_new(run: Commands, labelled: Ledger) -> None:
    id = id_of(labelled, 3)
    run("review", "rewrite", id, "closing  brackets in\x1b[2J code", "--reviewer", "Ada")
    (review,) = labelled.find(Review)
    better = labelled.get(Explanation, review.rewrite or "")
    assert better is not None
    assert (better.text, better.method, better.explainer) == ("closing  brackets in code", "person", "Ada")
    assert len(labelled.find(Explanation, latent=better.latent)) == 2
    assert verify(labelled) == []


def test_a_second_verdict_does_not_hide_the_first(run: Commands, labelled: Ledger) -> None:
    id = id_of(labelled, 7)
    run("review", "accept", id, "--reviewer", "Ada")
    run("review", "reject", id, "--reviewer", "Bob")
    assert [review.reviewer for review in labelled.find(Review)] == ["Ada", "Bob"]
    assert run("review", "--json", "--latent", 7).json[0]["verdict"] == "reject"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("accept", "ffff"), "no row of the ledger"),
        (("accept", "nonsense"), "is not an id"),
        (("rewrite", "EXPLANATION", "  "), "better explanation"),
        (("accept", "EXPERIMENT"), "is no explanation"),
        (("--verdict", "maybe"), "no verdict 'maybe'"),
    ],
)
def test_what_is_refused_writes_nothing(arguments: tuple[str, ...], said: str, run: Commands, labelled: Ledger) -> None:
    ids = {"EXPLANATION": id_of(labelled, 7), "EXPERIMENT": labelled.find(Experiment)[0].id}
    outcome = run("review", *(ids.get(word, word) for word in arguments))
    assert said.lower() in outcome.sentence.lower()
    assert labelled.find(Review) == []
    assert len(labelled.find(Explanation)) == len(LABELS)


def sit(ledger: Ledger, *lines: str, **filters: Any) -> tuple[int, str]:
    """A sitting with these lines typed: verdicts given, and what the screen showed."""
    typed: Iterator[str] = iter(lines)

    def ask(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    screen = Console(file=io.StringIO(), width=100)
    desk = Desk(ledger, "Ada", NO_FILTERS | filters, screen, ask)
    file = screen.file
    assert isinstance(file, io.StringIO)
    return desk.sit(), file.getvalue()


def test_the_desk_shows_cards_and_takes_verdicts(labelled: Ledger) -> None:
    given, screen = sit(labelled, "1", "a well put", "r", "w the word except", "q")
    assert given == 3
    assert [(review.verdict, review.note) for review in labelled.find(Review)] == [
        (Verdict.ACCEPT, "well put"), (Verdict.REJECT, ""), (Verdict.REWRITE, ""),
    ]  # fmt: skip
    assert "on «Monday»" in screen
    assert "floor 0.52" in screen


def test_the_desk_filters_sorts_and_forgives_typing_errors(labelled: Ledger) -> None:
    board = ("/week", "/", "s best", "u", "nonsense", "99", "s wrong", "p", "n")
    given, screen = sit(labelled, *board, "1", "b", "1", "x", "w", "q")
    assert given == 0
    assert screen.count("That is none of the commands") == 4
    assert "words week" in screen
    assert "A rewrite needs the better explanation" in screen


def test_end_of_input_ends_the_sitting(labelled: Ledger) -> None:
    assert sit(labelled, "1")[0] == 0


def test_a_label_without_scores_is_last_of_the_best(labelled: Ledger) -> None:
    latent = "model/dictionary/1"
    labelled.append(Explanation(latent=latent, text="unscored", method="m", explainer="x", experiment=None))
    best = select(read(labelled), sort=Sort.BEST)
    assert [label.text for label in best][-1] == "unscored"


def test_a_label_of_which_a_score_does_not_clear_its_floor_is_behind_those_of_which_all_do(labelled: Ledger) -> None:
    for index, values in ((20, (0.99, 0.60)), (21, (0.70, 0.70))):  # each from 0.1 below to 0.1 above; floor 0.55
        latent = f"model/dictionary/{index}"
        text = Explanation(latent=latent, text=f"label {index}", method="m", explainer="x", experiment=None)
        labelled.append(text, *(
            Score(explanation=text.id, experiment="run", scorer=scorer, judge="stub", value=value, low=value - 0.1,
                  high=1, chance=0.5, floor=0.55, n=40, unparsed=0)
            for scorer, value in zip(("score_detection", "score_fuzzing"), values, strict=True)
        ))  # fmt: skip
    best = [label.index for label in select(read(labelled), sort=Sort.BEST)]
    assert best.index(21) < best.index(20)
    assert [label.index for label in select(read(labelled), sort=Sort.DOUBTFUL)] == best[::-1]


def test_a_reviewer_needs_a_name(labelled: Ledger) -> None:
    with pytest.raises(UserError, match="reviewer's name"):
        decide(labelled, id_of(labelled, 7), Verdict.ACCEPT, "  ")
