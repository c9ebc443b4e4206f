"""The table of a small batch and the morning report of a large one, on narrow and wide terminals."""

import io

import pytest
from rich.console import Console

from agent.batch.labels import Label
from agent.batch.report import Batch, common_words, document, duration, failure_table, render, sparkline, strongest
from store.types import ActivationExample, Explanation, Score


def score(scorer: str, value: float, floor: float | None = 0.5) -> Score:
    return Score(explanation="e", experiment="x", scorer=scorer, judge="j", value=value, low=max(0, value - 0.1),
                 high=min(1, value + 0.1), chance=0.5, floor=floor, n=40, unparsed=2)  # fmt: skip


def label(index: int, value: float) -> Label:
    scores = (score("score_detection", value), score("score_fuzzing", max(0.0, value - 0.05), None))
    return Label(f"id{index}", f"m/d/{index}", f"explanation number {index}", "explain_latent", "stub", scores)


def evidence(id: str) -> Explanation:
    examples = tuple(
        ActivationExample(document=document, start=0, tokens=(" before", f" peak{document}", " after" * 30),
                          activations=(0.0, peak, 0.0))
        for document, peak in ((1, 9.0), (1, 8.0), (2, 3.0))
    )  # fmt: skip
    return Explanation(latent="m/d/1", text="t", method="m", explainer="x", experiment=None, evidence=examples)


def printed(batch: Batch, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    render(batch, evidence, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [80, 120])
def test_a_small_batch_is_a_table_with_examples(width: int) -> None:
    text = printed(Batch(asked=2, labels=[label(5, 0.9), label(7, 0.55)], calls=10, usd=0.5), width)
    for part in ("explanation number 5", "0.90", "[0.80, 1.00]", "floor 0.50", "no floor", "chance 0.50", "«peak1»",
                 "«peak2»", "2 of 2 latents labelled", "10 LLM calls, $0.5000"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_large_batch_is_a_morning_report(width: int) -> None:
    failures = [(f"m/d/{i}", "explain_latent", f"Latent {i} is dead: it never fires.") for i in range(900, 905)]
    labels = [label(i, 0.4 + i / 100) for i in range(50)]
    batch = Batch(asked=60, labels=labels, failures=failures, stopped="The budget is spent.", calls=9, unpriced=9)
    text = printed(batch, width)
    best, doubtful = text.index("The 10 best"), text.index("The 10 most doubtful")
    assert best < text.index("explanation number 49") < doubtful < text.index("explanation number 0")
    assert "explanation number 20" not in text
    words = " ".join(text.split())
    for part in ("detection", "floor", "median", "Latent … is dead", "900, 901, 902, …", "50 of 60 latents labelled"):
        assert part in words
    for part in ("5 failed", "5 not reached", "9 LLM calls, 9 of unknown price", "Stopped early: The budget is spent."):
        assert part in words


def test_no_label_is_called_best_that_clears_nothing() -> None:
    text = printed(Batch(asked=50, labels=[label(i, 0.5) for i in range(50)]), 100)
    assert "No label clears chance and floor" in text
    assert " best" not in text


def test_the_two_strongest_examples_come_from_two_documents() -> None:
    assert [(e.document, e.peak) for e in strongest(evidence("x"))] == [(1, 9.0), (2, 3.0)]


def test_the_json_has_examples_only_where_the_table_would() -> None:
    small = document(Batch(asked=1, labels=[label(1, 0.9)]), evidence)
    large = document(Batch(asked=50, labels=[label(i, 0.9) for i in range(50)]), evidence)
    assert len(small["labels"][0]["examples"]) == 2
    assert "examples" not in large["labels"][0]


def test_like_failures_count_together() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(failure_table([
        ("m/d/1", "score_detection", "Latent 1 fires in 3 windows, and a score needs 8."),
        ("m/d/1", "score_fuzzing", "Latent 1 fires in 3 windows, and a score needs 8."),
        ("m/d/2", "score_detection", "Latent 2 fires in 5 windows, and a score needs 8."),
        ("m/d/3", "explain_latent", "stub gave no explanation: declined: 'I cannot'"),
    ]))  # fmt: skip
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()[2:]
    assert lines[0].split()[0] == "2"
    assert "score_detection, score_fuzzing: Latent … fires in … windows, and a score needs 8." in lines[0]
    assert lines[1].split()[0] == "1"


def test_words_that_differ_give_way() -> None:
    assert common_words(["a 1 c", "a 2 c"]) == "a … c"
    assert common_words(["a b", "a b c"]) == "a b"


def test_sparkline_bins_from_nought_to_one() -> None:
    line = sparkline([0.0, 0.99, 0.99, 1.0])
    assert (len(line), line[-1], line[0], set(line[1:-1])) == (20, "█", "▃", {" "})


@pytest.mark.parametrize(
    ("seconds", "words"), [(42.4, "42 s"), (200, "3 min 20 s"), (3599.6, "1 h 0 min"), (22_320, "6 h 12 min")]
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words
