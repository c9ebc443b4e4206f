"""The words that code offers a small LLM, the places it puts them in, and what it takes for known."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from agent.bench.byagent import ByAgent
from agent.inquiry.small import FEWEST, claimed, common, known, offered, unspoilt
from agent.inquiry.swaps import fits, places
from store.types import Experiment
from tests.tools.world import ANIMAL, COLOUR, EVEN, ID, planted_context
from tools.workbench.context import Context
from tools.workbench.examples import half_of
from tools.workbench.lexicon import Entry, Lexicon, lexicon


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("swaps"))


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
        row("firing_words", "", {"words": [{"word": "Is"}]}),
        row("top_examples", "strongest: it <<was>> · Cap<<tain>>s · a<<_>>b · x <<<>> y; weaker: <<a>><<re>>", {}),
        row("minimal_pairs", "", {}, pairs=[{"cause": "been", "instead": "Moon"}]),
    ]
    assert known(shown) == {"is", "was", "tain", "captains", "_", "<", "a", "re", "are", "a_b", "been", "moon"}


def test_words_for_a_test_are_new_and_most_are_silent(context: Context) -> None:
    words = lexicon(context.subject, context.need_harvest(), EVEN, context.seed)
    held = [entry.word for entry in words.firing("score")]
    found = offered(context, EVEN, set())
    firing = [word for word in found if ID[f" {word}"] % 7 == 0]
    assert set(firing) == set(held)
    assert len(firing) >= FEWEST
    assert len(found) == len(set(found)) == 3 * len(firing)
    assert found == offered(context, EVEN, set())
    assert offered(context, EVEN, {held[0], "moon"}) == [], "fewer decide nothing"
    assert offered(context, COLOUR, set()) == []


def test_examples_do_not_give_away_what_is_tested(context: Context) -> None:
    example = {"tokens": [" ba", " red", " da"], "activations": [0.0, 5.0, 1.0]}
    rows = {"top": [example], "deciles": [{"tokens": [" ba", " blue"], "activations": [0.0, 5.0]}]}
    words = lexicon(context.subject, context.need_harvest(), COLOUR, context.seed)
    (held,) = words.firing("score")
    run = Experiment(
        tool="top_examples",
        version=1,
        subject="s",
        input={"latent": COLOUR},
        seed=0,
        output=rows,
        seconds=0,
        device="cpu",
    )
    shown = unspoilt(run, context).output
    assert shown is not None
    kept = [token for group in ("top", "deciles") for each in shown[group] for token in each["tokens"]]
    assert f" {held.word}" not in kept
    assert (shown["top"] == [example]) is (held.word != "red")


def test_what_words_hold_is_told_from_what_all_hold(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    def entry(word: str, fires: int) -> Entry:
        return Entry(word, 4, fires, float(fires))

    firing = ["my_size", "Size", "size_t", "large", "resize", "sizes", "a_b"]
    words = Lexicon({w.casefold(): entry(w, 4) for w in firing} | {w: entry(w, 0) for w in ("see", "late")}, Counter())
    monkeypatch.setattr("tools.workbench.lexicon.lexicon", lambda *_: words)
    assert common(context, 0, 12) == "size"
    few = Lexicon({w: entry(w, 4) for w in ("la", "ma", "na", "pa")} | {"see": entry("see", 0)}, Counter())
    monkeypatch.setattr("tools.workbench.lexicon.lexicon", lambda *_: few)
    assert common(context, 0, 12) is None, "one letter is none"


def test_a_claim_says_what_fires() -> None:
    assert (
        claimed("names of fruit, such as figs.")
        == claimed(" names of fruit. ")
        == claimed("It fires on names of fruit")
        == "it fires on names of fruit"
    )


def test_a_changed_prompt_is_another_investigation(monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        session: Any = None
        return ByAgent(session, "subject", "llm", 6000, None)._key

    before = key()
    assert key() == before
    monkeypatch.setattr("agent.bench.byagent.load", lambda name: SimpleNamespace(hash=f"another {name}"))
    assert key() != before
