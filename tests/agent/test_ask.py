"""`glossator ask` on the planted world, its LLM scripted: from the question to claims that cite their evidence."""

import shutil
from typing import Any

import pytest

from store.types import Experiment, Investigation, Judgement, LLMCall, Prediction, ToolOffer
from store.verify import verify
from tests.agent.agent_script import OTHER_PAIRS, PAIRS, QUESTION, acts, expect
from tests.agent.conftest import Commands
from tests.agent.planted_cli import planted_text
from tests.stub_llm import Stub
from tests.tools.world import N_LATENTS


def test_an_investigation_concludes(world: Commands, agent: Stub) -> None:
    answered = world("ask", QUESTION, "--thread", "first", "--json")
    assert answered.code == 0, answered.err
    assert answered.json["reason"] == "concluded"
    colours, position, seen, _, *verdicts = answered.json["claims"]
    (test,) = world.ledger.find(Experiment, tool="minimal_pairs")
    assert colours["evidence"] == position["evidence"] == [test.id]
    assert test.output is not None
    assert test.output["separated"] == 1.0
    assert [claim["conjecture"] for claim in answered.json["claims"][:4]] == [False, False, False, True]
    assert seen["hypothesis"] is None
    assert [claim["author"] for claim in answered.json["claims"]] == ["llm"] * 4 + ["code"] * 2
    assert [(claim["stance"], claim["evidence"]) for claim in verdicts] == [("for", [test.id]), ("against", [test.id])]
    predictions = world.ledger.find(Prediction)
    assert len(predictions) == 2
    assert all(p.counterexample and p.created_at < test.created_at for p in predictions)
    assert sorted(bool(j.held) for j in world.ledger.find(Judgement)) == [False, True]
    assert verify(world.ledger) == []
    asked = agent.stats()
    assert "tools" in asked["last"]
    assert "stream" in asked["last"]
    assert world.ledger.find(Investigation)[0].native
    calls = world.ledger.find(LLMCall)
    assert len(calls) == asked["requests"]
    assert all(call.tool_calls is not None for call in calls)
    assert answered.json["spent"]["tokens"] == 110 * asked["requests"]


def test_what_tools_are_worth_is_measured(world: Commands, agent: Stub) -> None:
    agent.configure(acts=acts(minimal_pairs=[{"input": {"pairs": 7}, "expect": []}, acts()["minimal_pairs"]]))
    assert world("ask", QUESTION).code == 0
    use = {row["tool"]: row for row in world.ledger.view("tool_use")}
    pairs, profile, unused = use["minimal_pairs"], use["latent_profile"], use["nearest_latents"]
    assert (pairs["used"], pairs["decided"], pairs["cited"], pairs["useful"]) == (1, 1, 1, 1)
    assert (pairs["offered"], pairs["by_code"]) == (1, 0)  # asked twice: the first answer was not used
    assert (profile["used"], profile["by_code"], profile["decided"], profile["cited"]) == (0, 1, 0, 1)
    assert (unused["used"], unused["by_code"], unused["useful"]) == (0, 0, 0)
    assert unused["offered"] == 1
    assert sum(offer.step == "predict" for offer in world.ledger.find(ToolOffer)) == 2
    steps = {offer.step for offer in world.ledger.find(ToolOffer)}
    assert steps == {"frame", "observe", "hypothesise", "predict", "refine", "conclude"}


def test_a_full_output_is_shown_when_asked_for(world: Commands, agent: Stub) -> None:
    agent.configure(acts={"show": [{"experiment": "E1"}, {"experiment": "E9"}], **acts()})
    assert world("ask", QUESTION).code == 0
    asked = agent.stats()["asked"]
    assert '"histogram": [{' in asked[2]
    assert '"histogram"' not in asked[1]
    assert "show one of E1, E2" in asked[3]


def test_a_wrong_citation_goes_back_to_the_llm(world: Commands, agent: Stub) -> None:
    claims = acts()["conclude"]["claims"]
    wrong = [
        [claims[0] | {"evidence": ["E9"]}],
        [claims[0] | {"evidence": ["E1"]}, claims[1] | {"stance": "for"}],
    ]
    agent.configure(acts=acts(conclude=[{"claims": each} for each in wrong] + [{"claims": claims}]))
    answered = world("ask", QUESTION, "--json")
    assert answered.code == 0
    assert len(answered.json["claims"]) == 4 + 2
    first, second = agent.stats()["asked"][-2:]
    assert "Claim 1 cites E9, which does not exist" in first
    assert "Claim 1 cites E1, which tested no prediction of that hypothesis" in second
    assert "Claim 2 cites E3 for the hypothesis, but the prediction failed there" in second


def test_a_claim_that_is_never_proven_becomes_a_conjecture(world: Commands, agent: Stub) -> None:
    overruled = {"sentence": "Position is all.", "hypothesis": "H2", "stance": "for", "evidence": ["E3"]}
    unproven = {"sentence": "Colours it is.", "hypothesis": "H1", "stance": "for", "evidence": ["E1"]}
    agent.configure(acts=acts(conclude={"claims": [overruled, unproven]}))
    answered = world("ask", QUESTION, "--json")
    assert answered.code == 0
    stubborn, *verdicts = answered.json["claims"]
    assert (stubborn["sentence"], stubborn["conjecture"], stubborn["evidence"]) == ("Colours it is.", True, [])
    assert [(v["author"], v["stance"]) for v in verdicts] == [("code", "for"), ("code", "against")]
    (row,) = world.ledger.view("claims_without_evidence")
    assert row["sentence"] == "Colours it is."


def test_a_test_that_was_run_is_no_prediction(world: Commands, agent: Stub) -> None:
    """Known results cannot be predicted, and rivals must be told apart by some test."""
    same = {"input": PAIRS, "expect": expect(H1=">=")}
    other = {"input": OTHER_PAIRS, "expect": expect(H1="<", H2=">=")}
    agent.configure(acts=acts(minimal_pairs=[same, same, other]))
    assert world("ask", QUESTION).code == 0
    asked = agent.stats()["asked"]
    assert any(
        "a prediction of H2; a test of which two hypotheses expect outcomes of one measure" in text for text in asked
    )
    assert any("registered already: design another test" in text for text in asked)


def one_pair(text: str, cause: str, instead: str) -> dict[str, Any]:
    return {"input": {"pairs": [{"text": text, "cause": cause, "instead": instead}]}, "expect": expect(H1=">=")}


@pytest.mark.parametrize(
    ("test", "told"),
    [
        (one_pair("ba red", "red", "red"), "cause and instead are the same"),
        (one_pair("ba red", "ba red", "cat"), "the cause is more than half of its text"),
        (one_pair("ba red", "blue", "cat"), "does not occur in its text"),
        ({"input": PAIRS, "expect": expect(H7=">=")}, "say once for each of H1, H2 what it expects"),
    ],
)
def test_bad_arguments_are_told_to_the_llm(world: Commands, agent: Stub, test: dict[str, Any], told: str) -> None:
    agent.configure(acts=acts(minimal_pairs=[test, acts()["minimal_pairs"]]))
    assert world("ask", QUESTION).code == 0
    assert told in " ".join(agent.stats()["asked"])


def test_a_latent_that_is_not_there_is_said_before_a_harvest_is_made(world: Commands, agent: Stub) -> None:
    shutil.rmtree(world.workspace)
    made = ("--corpus", planted_text(world.folder), "--tokens", 16_000)
    assert f"0 to {N_LATENTS - 1}" in world("ask", "what does latent 99999 do?", *made).sentence
    assert not (world.workspace / "activations").exists()


def test_a_thread_remembers_what_was_asked(world: Commands, agent: Stub) -> None:
    assert world("ask", QUESTION, "--thread", "t").code == 0
    assert world("ask", QUESTION, "--thread", "t").code == 0
    assert "It fires on colours." in agent.stats()["asked"][-1].partition("Question:")[0]


def test_an_endpoint_that_is_down_is_told_before_anything_is_loaded(
    world: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "some")
    monkeypatch.setattr("agent.session.Session.harvest", lambda self: pytest.fail("the subject was loaded"))
    assert "Nothing answers at http://127.0.0.1:9/v1" in world("ask", QUESTION).sentence


def test_only_llms_that_are_named_are_asked(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an agent alone nothing is fetched for the other roles, and tools that ask them are not offered."""
    monkeypatch.setattr("prompts.local.ensure_server", lambda *_: pytest.fail("the embedded LLM was fetched"))
    for role in ("EXPLAINER", "JUDGE"):
        monkeypatch.setenv(f"GLOSSATOR_{role}_MODEL", "")
    for name in ("BASE_URL", "MODEL"):
        monkeypatch.setenv(f"GLOSSATOR_AGENT_{name}", agent.base_url if name == "BASE_URL" else "stub")
        monkeypatch.delenv(f"GLOSSATOR_LLM_{name}")
    assert world("ask", QUESTION).code == 0
    offered = {tool for offer in world.ledger.find(ToolOffer) for tool in offer.tools}
    assert "minimal_pairs" in offered
    assert "score_detection" not in offered
