"""What lasts of an investigation: hypotheses, evidence, replay, reports."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from agent.inquiry.replay import surroundings
from agent.reports.export import escaped
from agent.reports.figures import curve, heat_map
from agent.screen.shapes import Curve, HeatMap
from agent.session import open_session
from agent.settings import load
from store.types import Experiment, Hypothesis, LLMCall
from tests.agent.agent_script import QUESTION, acts
from tests.agent.conftest import Commands
from tests.stub_llm import Stub
from tests.tools.world import COLOUR

HOSTILE = "<script>alert(1)</script> \x1b[31m| `x` <img src=x onerror=y> ](javascript:z)"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "workspace"


@pytest.fixture
def asked(world: Commands, llm: Stub, kept: Path) -> Commands:
    """A workspace in which thread t has concluded (asked once, then copied); the LLM's endpoint only fails."""
    if kept.exists():
        shutil.rmtree(world.workspace)
        shutil.copytree(kept, world.workspace)
    else:
        script = acts()
        script["conclude"]["claims"][0]["sentence"] = f"It fires on colours. {HOSTILE}"
        llm.configure(behaviour="agent", acts=script)
        assert world("ask", QUESTION, "--thread", "t").code == 0
        shutil.copytree(world.workspace, kept)
    llm.configure(behaviour="500")
    return world


def test_hypotheses_and_evidence(asked: Commands) -> None:
    shown = asked("hypotheses").out
    assert "supported" in shown
    assert "refuted" in shown
    assert "minimal_pairs separated >= 0.5: measured 1: held" in shown
    (thread,) = asked("hypotheses", "--thread", "t", "--json").json
    right, dull = thread["hypotheses"]
    assert (right["standing"], dull["standing"], dull["dull"]) == ("supported", "refuted", True)
    listed = asked("evidence", "--json").json
    assert [row["label"] for row in listed] == ["E1", "E2", "E3"]
    assert listed[2]["id"] == right["predictions"][0]["experiment"]
    one = asked("evidence", listed[2]["id"][:8])
    assert "separates 5 of 5 pairs" in one.out
    assert "decides minimal_pairs separated >= 0.5" in one.out
    assert "cited in t: It fires on colours." in one.out
    assert "\x1b" not in one.out
    assert asked("evidence", right["id"][:8], "--json").json["claim"] == right["claim"]
    assert "no thread 'x'" in asked("evidence", "--thread", "x").sentence


def test_views_of_predictions(asked: Commands) -> None:
    rows = asked.ledger.view("prediction_vs_outcome")
    assert [(row["thread"], row["comparison"], row["value"], row["held"]) for row in rows] == [
        ("t", ">=", 1.0, True),
        ("t", "<", 1.0, False),
    ]
    assert all(row["registered_at"] < row["tested_at"] for row in rows)
    (claim,) = asked.ledger.view("claims_without_evidence")
    assert claim["sentence"] == "Perhaps on paints, too."
    assert asked.ledger.view("replications") == []


def test_a_thread_replays_without_an_endpoint(asked: Commands, llm: Stub) -> None:
    before = llm.stats()["requests"]
    (asked.workspace / "replies.sqlite").unlink()
    again = asked("replay", "t", "--json")
    assert again.code == 0, again.err
    outcomes = [(each["what"].partition(":")[0], each["outcome"]) for each in again.json["replayed"]]
    assert ("minimal_pairs", "equal") in outcomes
    assert ("conclusion", "equal") in outcomes
    assert {outcome for _, outcome in outcomes} == {"equal"}
    assert len(outcomes) == 6 + 3 + 2 + 1  # replies, experiments, verdicts, conclusion
    assert llm.stats()["requests"] == before
    replicated = asked.ledger.view("replications")
    assert sorted((row["tool"], row["runs"], row["different_outputs"]) for row in replicated) == [
        ("latent_profile", 2, 1),
        ("minimal_pairs", 2, 1),
        ("top_examples", 2, 1),
    ]


def test_a_replay_says_where_it_differs(asked: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tools.world.COLOURS", (" cat", " dog", " river"))
    again = asked("replay", "t", "--json")
    assert again.code == 1
    different = {each["what"]: each["differences"] for each in again.json["replayed"] if each["outcome"] == "different"}
    assert any("separated: 1.0 became" in line for line in different["minimal_pairs"])
    assert "held: False became None" in different["verdict on minimal_pairs separated < 0.5"]


def test_a_reply_replays_from_its_record(asked: Commands) -> None:
    call = asked.ledger.find(LLMCall)[0]
    assert asked("replay", call.id, "--json").json["replayed"][0]["outcome"] == "equal"
    assert "give the id of an experiment" in asked("replay", asked.ledger.find(Hypothesis)[0].id).sentence


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_a_report_can_be_read_alone(asked: Commands) -> None:
    page = asked("export", "t", "--format", "html", "--out", "report.html")
    assert (page.code, page.out) == (0, "")
    text = (asked.folder / "report.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert {"svg", "circle", "table", "article"} <= tags.seen
    assert not tags.seen & {"script", "img", "link", "iframe"}
    assert not {name for name in tags.attributes if name.startswith("on") or name == "src"}
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    for run in asked.ledger.find(Experiment):
        assert run.id in text
    assert 'href="#q1E3"' in text
    assert 'id="q1E3"' in text
    assert "ba red da" in text


def test_a_report_in_markdown(asked: Commands) -> None:
    text = asked("export", "t").out
    assert f"## {QUESTION}" in text
    assert re.search(r"^- It fires on colours\\?\. .*\(E3\)$", text, re.MULTILINE)
    assert "\\<script\\>" in text
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "| ba red da | 4" in text
    assert "conjecture: no evidence" in text
    assert "There is no format" in asked("export", "t", "--format", "pdf").sentence
    assert "no thread 'x'" in asked("export", "x").sentence


@pytest.mark.parametrize("text", ["- a list?", "1. a list?", "2) a list?", "+ a list?", "---", "===", "# a heading?"])
def test_text_is_no_list_rule_or_heading_in_markdown(text: str) -> None:
    opens, inline, closes = MarkdownIt().parse(escaped(text))
    assert (opens.type, closes.type) == ("paragraph_open", "paragraph_close")
    assert "".join(child.content for child in inline.children or ()) == text


def test_a_dose_response_is_a_curve() -> None:
    points = [(2.0, 0.5, 0.4, 0.6), (0.0, 0.0, None, None), (1.0, -0.25, None, None)]
    text = curve(Curve("change of <b>", points, {"random": [(0.0, 0.1, None, None), (2.0, 0.1, None, None)]}))
    control, line = re.findall(r'points="([^"]+)"', text)
    across, up = zip(*(map(float, point.split(",")) for point in line.split()), strict=True)
    assert list(across) == sorted(across)
    assert up[2] < up[0] < up[1]  # SVG counts downwards
    assert len(control.split()) == 2
    assert "change of &lt;b&gt;; grey: random" in text
    assert curve(Curve("", [(1.0, 1.0, None, None)], {})).count("<circle") == 1


def test_a_heat_map_is_symmetric_about_zero_and_leaves_out_what_was_not_measured() -> None:
    text = heat_map(HeatMap(["L0", "L1"], ["<b>", " John"], [[0.0, 2.0], [-1.0, None]]))
    fills = re.findall(r'fill="rgb\((\d+),(\d+),(\d+)\)"><title>', text)
    assert fills == [("255", "255", "255"), ("234", "88", "12"), ("146", "177", "245")]
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert ">2<" in text
    assert ">-2<" in text


def test_a_row_is_replayed_on_its_own_subject_whatever_is_loaded(world: Commands) -> None:
    called = world("tool", "call", "latent_profile", f'{{"latent": {COLOUR}}}', "--json").json
    with open_session(load()) as session:
        first = session.ledger.get(Experiment, called["id"])
        assert first is not None
        loaded = session.subject
        assert surroundings(session, first).subject is loaded
        other: Any = SimpleNamespace(fingerprint="another")
        session.subject = other
        recorded = surroundings(session, first)
        assert recorded.subject.fingerprint == loaded.fingerprint
        assert session.subject.fingerprint == "another"
