"""The words of a harvest and what a latent makes of them, against the planted world's truth."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact

from tests.tools.world import COLOUR, EVEN, FILLERS, ID, planted_context
from tools.workbench.context import Context
from tools.workbench.lexicon import WORDS, Entry, Lexicon, lexicon
from tools.workbench.registry import get_tool
from tools.workbench.run import validate
from tools.workbench.stats import fisher


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder: Path = tmp_path_factory.mktemp("lexicon")
    return planted_context(folder)


def words_of(context: Context, latent: int) -> Lexicon:
    return lexicon(context.subject, context.need_harvest(), latent, context.seed)


def call(context: Context, **input: object) -> Any:
    return get_tool("firing_words").function(validate(get_tool("firing_words"), input), context)


def test_words_are_what_a_reader_calls_words() -> None:
    text = "isn't my_var[3] += 0x1F; it\u2019s"
    assert WORDS.findall(text) == ["isn't", "my_var", "[", "3", "]", "+=", "0x1F", ";", "it\u2019s"]


def test_what_it_fires_on_is_what_was_planted(context: Context) -> None:
    words = words_of(context, EVEN)
    planted = {word.strip() for word in FILLERS if ID[word] % 7 == 0}
    assert {entry.word for entry in words.firing()} == planted
    halves = [[entry.word for entry in words.firing(half)] for half in ("explain", "score")]
    assert sorted(halves[0] + halves[1]) == sorted(planted)
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    assert [entry.word for entry in words.firing()][:2] == [halves[0][0], halves[1][0]]
    (red,) = [entry for entry in words_of(context, COLOUR).firing() if entry.word == "red"]
    assert red.fires == red.n
    assert 0.5 < red.sum / red.n < 1


def test_the_other_word_is_as_frequent_and_silent(context: Context) -> None:
    words, rng = words_of(context, COLOUR), np.random.default_rng(0)
    rare = words.silent("red", {"red"}, rng, near_miss=False)
    assert rare is not None
    assert not words.entries[rare].fires
    assert 0.5 <= (words.counts[rare] + 1) / (words.counts["red"] + 1) <= 2
    assert words.silent("red", {"red", rare}, rng, near_miss=False) != rare


def test_a_near_miss_is_of_a_kind_and_ends_alike() -> None:
    spelled = ("nailed", "Failed", "moon", "7", "_", "the")
    counts = Counter({"nailed": 3, "failed": 3, "moon": 3, "7": 3, "_": 3, "the": 99, "jailed": 3})
    words = Lexicon({word.casefold(): Entry(word, 3, 0, 0.0) for word in spelled}, counts)
    rng = np.random.default_rng(0)
    assert words.silent("jailed", {"nailed"}, rng, near_miss=True) == "Failed"
    assert words.silent("12", (), rng, near_miss=True) is None, "nothing is as rare as what was never seen"
    assert words.silent("jailed", {key for key in words.entries if key != "the"}, rng, near_miss=False) is None


def test_the_tool_lists_words_of_a_half(context: Context) -> None:
    both = call(context, latent=EVEN)
    half = call(context, latent=EVEN, half="score", n=2)
    assert both.all == half.all == len(both.words)
    assert [each.word for each in half.words] == [each.word for each in both.words][1:4:2]
    assert all(each.fires == each.n for each in both.words)


@pytest.mark.parametrize(("hits", "n", "others", "of"), [(6, 6, 0, 12), (3, 5, 2, 7), (0, 4, 3, 5), (2, 2, 2, 2)])
def test_fisher_is_that_of_scipy(hits: int, n: int, others: int, of: int) -> None:
    table = [[hits, n - hits], [others, of - others]]
    assert fisher(hits, n, others, of) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
