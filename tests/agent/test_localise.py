"""A behaviour localised on the real model: by command, by the agent, and what it says of input that cannot be used."""

import json
from collections.abc import Callable
from io import StringIO
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from agent.commands.localise import _heads
from agent.localise import Localised, Step
from agent.nodes import LOCALISING
from store.errors import UserError
from store.types import Experiment
from store.verify import verify
from tests.agent.conftest import Commands, Outcome
from tests.stub_llm import Stub
from tools.workbench.subject import Subject

STEPS = [
    "contrast_pairs",
    "activation_patching",
    "attribution_patching",
    "edge_attribution",
    "circuit_faithfulness",
    "head_profile",
]
QUESTION = "How does the model find the city in 'The capital of France is the city of'?"
PAIR = "The capital of France is|The capital of Italy is| Paris| Rome"


@pytest.fixture
def real(run: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands on the real model, with a little text to harvest."""
    rows = [json.dumps({"text": topics[key][:600]}) for key in sorted(topics)[:10]]
    (run.folder / "text.jsonl").write_text("\n".join(rows))
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    return run


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
def test_a_behaviour_is_localised_and_goes_on_where_it_was_interrupted(
    real: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def localised() -> Outcome:
        return real("localise", "--template", "capital", "--n", 4, "--json")

    def interrupted(output: dict[str, Any]) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("agent.localise.heads_of", interrupted)
        assert localised().code == 130
    kept = {row.tool: row.id for row in real.ledger.find(Experiment)}
    assert list(kept) == STEPS[:4]
    answered = localised()
    assert answered.code == 0, answered.err
    found = answered.json
    assert [step["tool"] for step in found["steps"]] == STEPS
    assert [step["earlier"] for step in found["steps"]] == [True] * 4 + [False] * 2
    assert {step["tool"]: step["id"] for step in found["steps"][:4]} == kept
    _, residual, _, edges, circuit, heads = (step["output"] for step in found["steps"])
    country = next(i for i, name in enumerate(residual["map"]["columns"]) if "COUNTRY" in name)
    assert residual["map"]["values"][0][country] == pytest.approx(1, abs=0.05)
    assert " of @3" in residual["map"]["columns"]  # a token that repeats has its position
    assert found["faithfulness"] > 0.3 > max(circuit["controls"]["random"])
    assert found["rank_correlation"] > 0.5
    assert set(found["heads"]) == {head["label"] for head in heads["heads"]}
    assert edges["sizes"][-1]["faithfulness"] > edges["sizes"][-1]["random"] + 0.3
    for path in map(real.workspace.joinpath, found["pictures"]):
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert len(found["pictures"]) >= 10
    told = real("localise", "--template", "capital", "--n", 4).out
    words = " ".join(told.split())  # lines are folded at the terminal's width
    expected = ("exact patching", "rank correlation", "faithfulness", "others of their layers", "picture")
    assert all(each in words for each in expected)
    assert all(step["id"][:8] in told for step in found["steps"])
    assert verify(real.ledger) == []


FEW = {"site": "z", "layers": [22, 23, 24], "top": 4, "sample": 4}


def test_a_behaviour_in_question_is_localised_first(real: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline runs before the LLM says anything; its predictions and claims are about what was patched."""
    monkeypatch.setitem(LOCALISING, "attribution_patching", FEW)
    monkeypatch.setitem(LOCALISING, "head_profile", {"heads": ["23.3"], "ablate": False})
    patch = {"site": "resid_pre", "layers": [0], "positions": [4]}
    script = {
        "enough": {},
        "state_hypotheses": {
            "hypotheses": ["the country's own token carries it"],
            "dull": {"account": "position", "claim": "the last position carries it"},
        },
        "activation_patching": {
            "input": patch,
            "expect": [{"hypothesis": "H1", "comparison": ">"}, {"hypothesis": "H2", "comparison": "<="}],
        },
        "finish": {"reading": "it is the country"},
        "conclude": {
            "claims": [
                {"sentence": "The country carries it.", "hypothesis": "H1", "stance": "for", "evidence": ["E4"]},
                {"sentence": "Not position.", "hypothesis": "H2", "stance": "against", "evidence": ["E4"]},
                {"sentence": "Heads do it.", "hypothesis": None, "stance": None, "evidence": ["E2", "E3"]},
            ]
        },
    }
    llm.configure(behaviour="agent", acts=script)
    answered = real("ask", QUESTION, "--corpus", "text.jsonl", "--tokens", 1500, "--json")
    assert answered.code == 0, answered.err
    assert answered.json["reason"] == "concluded"
    runs = real.ledger.find(Experiment)
    assert [row.tool for row in runs] == ["contrast_pairs", "attribution_patching", "head_profile", STEPS[1]]
    heads, test = runs[1:3], runs[3]
    for row in (runs[0], runs[1], test):
        first, *others = (pair["clean"] for pair in row.input["pairs"])
        assert first in QUESTION
        assert all(other.startswith("The capital of ") for other in others)
        assert len({first, *others}) == 4
    cited = [claim["evidence"] for claim in answered.json["claims"]]
    assert cited[:3] == [[test.id], [test.id], [row.id for row in heads]]
    assert not any(claim["conjecture"] for claim in answered.json["claims"])
    assert verify(real.ledger) == []


def test_a_small_llm_is_not_asked_about_it(real: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_AGENT_TOOL_CALLS", "false")
    monkeypatch.setattr("agent.nodes.LOCALISING", {"contrast_pairs": {}})
    answered = real("ask", QUESTION, "--corpus", "text.jsonl", "--tokens", 1500, "--json")
    assert answered.code == 0, answered.err
    (pairs,) = real.ledger.find(Experiment)
    none, claim = answered.json["claims"]
    assert none["sentence"].startswith("No hypothesis was tested")
    assert [each["evidence"] for each in (none, claim)] == [[pairs.id]] * 2
    assert claim["author"] == "code"
    assert "the behaviour is there to be localised" in claim["sentence"]
    told = real("ask", QUESTION, "--corpus", "text.jsonl", "--tokens", 1500).out
    assert told.startswith("pairs\n  clean ")  # as localise tells it
    assert "Seen:" not in told
    assert "No hypothesis was tested" in told
    assert llm.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Name a template"),
        (("--template", "ioi", "--pair", PAIR), "cannot be mixed"),
        (("--pair", "a|b| c"), "4 parts and not 3"),
        (("--pair", PAIR.replace("Italy", "Great Britain")), "clean has 5 tokens and corrupted 6"),
        (("--pair", PAIR.replace("The capital of Italy is", "Italy capital The of is")), "other positions"),
        (("--pair", PAIR.replace("Italy", "France")), "the same tokens"),
        (("--template", "weather"), "There is no --template weather: name one of ioi,"),
        (("--template", "ioi", "--n", 65), "n: Input should be less than or equal to 64"),
    ],
)
def test_what_cannot_be_localised_is_said(
    real: Commands, refused: Callable[..., str], arguments: tuple[Any, ...], sentence: str
) -> None:
    outcome = real("localise", *arguments)
    assert sentence in outcome.sentence


@pytest.mark.parametrize(("flags", "dtype"), [((), "float32"), (("--dtype", "bfloat16"), "bfloat16")])
def test_the_model_is_read_precisely(
    run: Commands, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], dtype: str
) -> None:
    def load(*given: Any) -> Subject:
        raise UserError(f"{given[4]}.")

    monkeypatch.setattr("tools.dictionaries.load.load_subject", load)
    assert run("localise", "--template", "ioi", *flags).sentence == f"{dtype}."


@pytest.mark.parametrize(("site", "nearest"), [("blocks.3.attn.hook_zz", "blocks.3.attn.hook_z"), ("resid", "resid_")])
def test_a_hook_point_that_does_not_exist_is_said(real: Commands, site: str, nearest: str) -> None:
    wrong = real("tool", "call", "activation_patching", json.dumps({"template": "ioi", "site": site}))
    assert f"nearest are {nearest}" in wrong.sentence


def test_equal_metrics_and_answers_of_several_tokens_are_said(real: Commands) -> None:
    """Swapped answers in equal pairs: their gaps cancel, so that there is no share to tell, and no nan."""
    pairs = [PAIR, "|".join([*PAIR.split("|")[:2], " Rome", " Paris"])]
    arguments = [word for pair in pairs for word in ("--pair", pair)]
    answered = real("localise", *arguments, "--json")
    assert answered.code == 0, answered.err
    missing = {step["tool"]: step["not_available"] for step in answered.json["steps"] if step["not_available"]}
    assert set(missing) == {"edge_attribution", "circuit_faithfulness", "head_profile"}
    assert "same on clean and corrupted" in missing["edge_attribution"]
    residual = answered.json["steps"][1]["output"]
    assert residual["strongest"]["effect"] is None
    assert any("no share" in warning for warning in residual["warnings"])


def test_a_narrow_screen_cuts_no_interval() -> None:
    row = {
        "layer": 23,
        "index": 3,
        "effect": 0.495,
        "low": 0.41,
        "high": 0.58,
        "drawn": False,
        "estimate": 4.39,
        "exact": 5.17,
    }
    output = {"top": [row], "correlation": 0.9, "misses": [], "controls": {"permuted": 0.1}}
    ran: Any = SimpleNamespace(output=output, error=None)
    found = Localised("ioi", [Step("attribution_patching", ran)])
    for width, estimate in ((40, False), (80, True)):
        screen = StringIO()
        _heads(Console(file=screen, width=width), found)
        told = screen.getvalue()
        assert "[+0.41, +0.58]" in told
        assert ("+0.42" in told) == estimate
