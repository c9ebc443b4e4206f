"""Text of models and data reaches the terminal harmless, and firing tokens can be seen with and without colour."""

import unicodedata
from dataclasses import replace

import pytest
from rich.console import Console

from agent.reports.figures import figure
from agent.screen.shapes import figures
from agent.screen.show import clean, coloured, highlight, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2\x1b\\sixel", "sixel"),
        ("\x9b2Jgone", "gone"),
        ("a\x1b", "a"),
        ("\x1bcreset", "reset"),
        ("pass\u202eword\u2066", "password"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tag\U000e0041", "tag"),
        ("back\x08space\x00", "backspace"),
        ("one\r\ntwo\u2028three", "one↵two↵three"),
        ("\ud800lone", "lone"),
        ("क\u094d\u200dष", "क\u094d\u200dष"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
    ],
)
def test_nothing_steers_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_no_character_survives_that_could() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(c) for c in clean(every) if c not in "\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_markup_is_never_read() -> None:
    console = Console(record=True, width=60, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(plain("[red]x[/red] [/nonsense]"))
    assert "[red]x[/red] [/nonsense]" in capture.get()


def test_without_colour_strong_and_weak_tokens_are_bracketed() -> None:
    text = highlight([" on", " Monday", " and", "\n"], [0.0, 8.0, 2.0, 1.0], colour=False)
    assert text.plain == "on «Monday» \u2039and\u203a\u2039↵\u203a"
    assert not text.spans


def test_with_colour_the_text_is_left_alone_and_the_peak_is_darkest() -> None:
    text = highlight([" on", " Monday", " and"], [0.0, 8.0, 2.0], colour=True)
    assert text.plain == "on Monday and"
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert styles.keys() == {"Monday", "and"}
    assert styles["Monday"] != styles["and"]


def test_a_risk_is_shaded_by_its_size_and_not_by_its_rank() -> None:
    """Of two texts alike but for the size of the risk only one is marked, on a terminal and in a report."""
    tokens = [" Bern", " lies", " in"]
    low, high = ([0.02, 0.2, 0.1], [0.1, 0.9, 0.4])
    assert highlight(tokens, low, colour=False, scale=1.0).plain == "Bern lies in"
    assert highlight(tokens, high, colour=False, scale=1.0).plain == "Bern «lies» \u2039in\u203a"
    (_, (shape,)), *_ = figures({"watched": {"tokens": tokens, "activations": low, "scale": 1.0}})
    assert "0.30" in figure(shape)
    assert "0.90" in figure(replace(shape, scale=None))


def test_the_peak_is_shown_however_long_the_text() -> None:
    tokens = [f" w{i}" for i in range(500)]
    activations = [0.0] * 500
    activations[321] = 1.0
    text = highlight(tokens, activations, colour=False, cells=60).plain
    assert "«w321»" in text
    assert len(text) <= 64
    assert text.startswith("…")
    assert text.endswith("…")


def test_no_color_and_pipes_mean_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coloured(Console(force_terminal=True, color_system="truecolor"))
    assert not coloured(Console(force_terminal=False))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Console(force_terminal=True, color_system="truecolor"))
