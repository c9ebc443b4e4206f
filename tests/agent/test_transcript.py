"""Events on a terminal: readable at every width, and nothing untrusted steers the terminal."""

import re
from collections.abc import Iterable
from io import StringIO

import pytest
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from agent.conversation.transcript import Transcript
from agent.inquiry.events import Concluded, Event, HypothesisStated, TextDelta, ToolBegan, ToolEnded
from agent.screen.draw import drawn
from agent.screen.panels import approval_panel, call_panel
from agent.screen.plot import bars, curve, heat_map
from agent.screen.shapes import Bars, figures
from store.types import Claim
from tests.agent.script import APPROVAL, E1, E2, EXAMPLES, H1, HOSTILE, OBSERVED, TESTED
from tools.patching.attribution_patching import Verified
from tools.patching.edge_attribution import EdgeEffect
from tools.patching.head_profile import Kind
from tools.patching.integrated_latent_attribution import LatentAttribution
from tools.patching.path_patching import PathEffect
from tools.patching.self_repair import PartRepair

SGR = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(*events: Event, width: int = 80) -> tuple[str, Transcript]:
    """All that is printed for `events` on a colour terminal, panels opened; colours are checked and taken out."""
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system="truecolor", highlight=False)
    transcript = Transcript(console)
    for event in events:
        for each in transcript.take(event):
            console.print(each)
        for line in (*transcript.live(), transcript.status()):
            assert cell_len(line.plain) <= width
    for call in transcript.calls:
        console.print(call_panel(call, console))
    console.print(approval_panel(APPROVAL))
    return SGR.sub("", file.getvalue()), transcript


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    text, transcript = shown(*OBSERVED, *TESTED, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert transcript.concluded
    assert not CONTROL.search(text)
    pieces = ("Latent 6", "top_examples", "H1", "✓ H1", "✗ H2", "conjecture", "○ random direction", E1[:8], E2[:8])
    for piece in pieces:
        assert piece in text


def plain(printed: Iterable[RenderableType]) -> list[str]:
    """The words of lines that are plain text."""
    lines = []
    for line in printed:
        assert isinstance(line, Text)
        lines.append(line.plain)
    return lines


def test_words_stream_as_they_wrap() -> None:
    console = Console(file=StringIO(), width=20)
    transcript = Transcript(console)
    words = ("one ", "two ", "three ", "four ", "five ", "six ")
    lines = [line for word in words for line in plain(transcript.take(TextDelta(text=word)))]
    assert lines == ["one two three four"]
    assert next(transcript.live()).plain == "five six "
    assert plain(transcript.take(TextDelta(text="\nnext"))) == ["five six "]
    assert [line.rstrip() for line in plain(transcript.flush())] == ["next"]


def test_a_tool_call_opens_into_what_why_verdict_seconds_id_and_figures() -> None:
    text, transcript = shown(*OBSERVED)
    panel = text[text.index("╭") :]
    for piece in ("top_examples", "latent 6", "to see what it fires on", "fires on 0.21%", E1[:8], "bank", "0 to 2"):
        assert piece in panel
    assert transcript.calls[0].ended.output == EXAMPLES


def test_what_is_hostile_is_shown_and_obeyed_by_nobody() -> None:
    text, _ = shown(
        TextDelta(text=HOSTILE),
        TextDelta(text="\x1b"),
        TextDelta(text="[2J\n"),
        HypothesisStated(id=H1, claim=HOSTILE, dull=False),
        ToolBegan(tool="t", why=HOSTILE, input={"text": HOSTILE, HOSTILE: [HOSTILE]}),
        ToolEnded(tool="t", experiment=E1, ok=False, verdict=HOSTILE, seconds=0.1, output={
            HOSTILE: [{"token": HOSTILE, "effect": 1.0}, {"token": "[red]x[/red]", "effect": -1.0}],
            "readings": [{"tokens": [HOSTILE, "x"], "activations": [1.0, 0.0]}],
        }),
        Concluded(thread=HOSTILE, reason=HOSTILE, claims=[Claim(sentence=HOSTILE, evidence=(HOSTILE,))]),
    )  # fmt: skip
    assert not CONTROL.search(text)
    assert "evil" in text
    assert "[red]x[/red]" in text


def test_bars_share_a_scale_and_keep_their_sign() -> None:
    up, down = bars([("a", 2.0), ("much longer than there is room for", -1.0)], 60).plain.split("\n")
    assert abs(up.count("█") - 2 * down.count("█")) <= 1
    assert "-1" in down
    assert "…" in down
    assert bars([], 60).plain == ""


def test_a_curve_has_its_points_intervals_zero_and_controls() -> None:
    points = [(-2.0, 2.0, 1.5, 2.5), (0.0, 0.0, -0.3, 0.3), (2.0, -2.0, -2.4, -1.6)]
    name, *rows, ruler = curve(points, 80, "strength", "effect", [[(-1.0, 0.1, None, None)]]).plain.split("\n")
    assert name == "effect"
    assert [row.split("┤")[0].strip() for row in rows] == ["2.5", *6 * [""], "-2.4"]
    assert "".join(rows).count("●") == 3
    assert "".join(rows).count("○") == 1
    assert "│" in rows[0]
    assert max(row.count("┈") for row in rows) > 30
    assert ruler.split() == ["-2", "strength", "2"]
    assert curve([(1.0, 1.0, None, None)], 80).plain == ""


def test_a_heat_map_has_a_symmetric_scale_and_says_what_does_not_fit() -> None:
    values = [[0.0, 2.0, -2.0], [None, -0.5, 1.0]]
    name, second, *foot = heat_map(["L0", "L10"], ["a", "bc", "d"], values, 80, False).plain.split("\n")
    assert name.split() == ["L0", "#", "(#)"]
    assert second.split() == ["L10", "(·)", "+"]
    assert [line.split() for line in foot[:2]] == [["a", "b", "d"], ["c"]]
    assert foot[2].split() == ["(#)", "-2", "#", "2"]
    coloured = heat_map(["L0"], ["a"], [[-1.0]], 80, True)
    assert any("rgb(50,120,250)" in str(span.style) for span in coloured.spans)
    narrow = heat_map(["L0", "L10"], ["a", "bc", "d"], values, 12, False).plain
    assert "1 more columns do not fit: the last are shown" in narrow
    assert [line.split() for line in narrow.split("\n")[2:4]] == [["b", "d"], ["c"]]


def test_what_an_edit_does_is_drawn_beside_its_controls() -> None:
    effect = {"value": 1.0, "effect": -2.0, "low": -2.5, "high": -1.5, "kl": 0.1, "norm": 3.0}
    output = {"metric": "p", "effect": effect, "controls": {"no_edit": effect | {"effect": 0.0}, "other": "latent 7"}}
    console = Console(width=60)
    with console.capture() as shown:
        console.print(*drawn(output, 60, False), sep="\n")
    lines = [line.split() for line in shown.get().splitlines() if line.strip()]
    assert [line[:3] for line in lines] == [["effect"], ["effect", "-2", lines[1][2]], ["no", "edit", "0"]]


def test_a_count_is_no_bar_among_controls() -> None:
    console = Console(width=60)
    with console.capture() as shown:
        console.print(*drawn({"controls": {"other_latents": 20, "separated": 0.05}}, 60, False), sep="\n")
    assert "separated" in shown.get()
    assert "other latents" not in shown.get()


@pytest.mark.parametrize(
    ("row", "name", "measure"),
    [
        (Verified, "site", "effect"),
        (LatentAttribution, "latent", "exact"),
        (EdgeEffect, "edge", "exact"),
        (PathEffect, "sender", "effect"),
        (PartRepair, "part", "total"),
        (Kind, "label", "value"),
    ],
)
def test_what_was_measured_is_drawn_and_no_estimate_or_threshold(row: type[BaseModel], name: str, measure: str) -> None:
    of: dict[object, object] = {str: "L1H1", str | None: "a", int: 1, int | None: 1}
    values = {key: of.get(field.annotation, 0.5) for key, field in row.model_fields.items()}
    for fields in (values, dict(sorted(values.items()))):  # as it comes from the tool, and from the ledger
        ((_, (drawing,)),) = figures({"top": [fields]})
        assert isinstance(drawing, Bars)
        assert (drawing.rows[0].label, drawing.measure) == (str(values[name]), measure)
