"""What code puts beside a small LLM's words, and what of them it takes for known, on the planted world."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from agent.bench.byagent import ByAgent
from agent.inquiry.small import guessed, known
from agent.inquiry.swaps import Frequencies, fits, places
from store.types import Experiment
from tests.tools.world import ANIMAL, COLOUR, ID, planted_context
from tools.workbench.context import Context
from tools.workbench.examples import half_of


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("swaps"))


def test_the_other_word_is_as_frequent_and_silent(context: Context) -> None:
    found = Frequencies.of(context, COLOUR)
    assert found.fires == {"red", "green", "blue"}
    rare, common = found.match("red", ()), found.match("ba", {"ba"})
    assert rare is not None
    assert common is not None
    assert rare not in found.fires
    for word, other in (("red", rare), ("ba", common)):
        assert 0.5 <= (found.count(other) + 1) / (found.count(word) + 1) <= 2
    assert found.count("red") < found.count("ba") / 2
    assert found.match("red", {rare}) != rare


def test_other_words_are_of_a_kind_and_counted_as_words() -> None:
    text = "x = 1 == 2 the the cat == 3 a_b theme _ 3 ("
    found = Frequencies(text, Counter({"the": 2, "==": 2, "3": 2, "_": 2, "(": 1}), frozenset({"_"}))
    assert (found.count("the"), found.count("The"), found.count("_"), found.count("==")) == (2, 2, 2, 2)
    assert found.match("cat", ()) == "the"
    assert found.match("_", ()) == "=="
    assert found.match("7 of them, at least", ()) == "("  # nothing of its kind is as rare
    assert Frequencies(text, Counter({"the": 9}), frozenset()).match("cat", ()) is None


def test_places_are_in_the_scoring_half(context: Context) -> None:
    harvest = context.need_harvest()
    words = {id: word for word, id in ID.items()}
    halves: dict[str, str] = {"explain": "", "score": ""}
    for window in harvest.windows(range(harvest.n_windows)):
        halves[half_of(harvest, window.document)] += "".join(words[int(token)] for token in window.tokens) + "\n"
    found = places(context, ANIMAL)
    assert len(found) > 5
    long = [before for before, _ in found if len(before.split()) > 3]
    assert long
    assert all(f" {before}" in halves["score"] and f" {before}" not in halves["explain"] for before in long)


@pytest.mark.parametrize(
    ("place", "word", "fit"),
    [
        (("Here", " it"), "is", False), (("Here ", " it"), "is", True), (("foo", "bar"), "_", True),
        (("(", "s)"), "cat", False), (("(", ")"), "cat", True),
    ],
)  # fmt: skip
def test_a_word_stays_a_word(place: tuple[str, str], word: str, fit: bool) -> None:
    assert fits(place, word) is fit


def test_what_was_shown_is_known() -> None:
    def row(tool: str, line: str, output: dict[str, Any] | None, **input: Any) -> tuple[str, Experiment]:
        run = Experiment(tool=tool, version=1, subject="s", input=input, seed=0, output=output, seconds=0, device="cpu")
        return line, run

    shown = [
        row("latent_profile", "", {"top_tokens": [{"token": " Is"}]}),
        row("top_examples", "strongest: it <<was>> · Cap<<tain>>s · a<<_>>b · x <<<>> y; weaker: <<a>><<re>>", {}),
        row("minimal_pairs", "", {}, pairs=[{"cause": "been"}]),
    ]
    assert known(shown) == {"is", "was", "tain", "captains", "_", "<", "a", "re", "are", "a_b", "been"}
    assert guessed(["Was", "are", "were"], known(shown))
    assert not guessed(["Was", "being", "were"], known(shown))


def test_a_changed_prompt_is_another_investigation(monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        return ByAgent(None, "subject", "llm", 6000, None)._key  # type: ignore[arg-type]

    before = key()
    assert key() == before
    monkeypatch.setattr("agent.bench.byagent.load", lambda name: SimpleNamespace(hash=f"another {name}"))
    assert key() != before
