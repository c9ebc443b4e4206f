"""`glossator ask` on the planted world, its LLM scripted: from the question to claims that cite their evidence."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.events import ApprovalNeeded, Concluded, TextDelta
from agent.investigate import investigate
from agent.limits import Limits
from agent.session import open_session
from agent.settings import load
from store.ledger import Ledger
from store.types import Experiment, Investigation, Judgement, LLMCall, Prediction, ToolOffer
from store.verify import verify
from tests.agent.agent_script import OTHER_PAIRS, PAIRS, QUESTION, acts, expect
from tests.agent.conftest import Commands
from tests.agent.planted_cli import Running
from tests.stub_llm import Stub


@pytest.fixture
def agent(llm: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as the agent's LLM, which calls tools natively."""
    monkeypatch.setenv("GLOSSATOR_LLM_RETRIES", "0")
    llm.configure(behaviour="agent", acts=acts())
    return llm


@pytest.mark.parametrize("native", ["true", "false"])
def test_an_investigation_concludes(
    world: Commands, agent: Stub, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_AGENT_TOOL_CALLS", native)
    answered = world("ask", QUESTION, "--thread", "first", "--json")
    assert answered.code == 0, answered.err
    assert answered.json["reason"] == "concluded"
    colours, position, seen, conjecture = answered.json["claims"]
    (test,) = world.ledger.find(Experiment, tool="minimal_pairs")
    assert colours["evidence"] == position["evidence"] == [test.id]
    assert test.output is not None
    assert test.output["separated"] == 1.0
    assert [claim["conjecture"] for claim in answered.json["claims"]] == [False, False, False, True]
    assert seen["hypothesis"] is None
    assert {claim["author"] for claim in answered.json["claims"]} == {"llm"}
    predictions = world.ledger.find(Prediction)
    assert len(predictions) == 2
    assert all(p.counterexample and p.created_at < test.created_at for p in predictions)
    assert sorted(bool(j.held) for j in world.ledger.find(Judgement)) == [False, True]
    assert verify(world.ledger) == []
    asked = agent.stats()
    assert ("tools" in asked["last"]) == ("stream" in asked["last"]) == (native == "true")
    assert world.ledger.find(Investigation)[0].native == (native == "true")
    calls = world.ledger.find(LLMCall)
    assert len(calls) == asked["requests"]
    assert all((call.tool_calls is not None) == (native == "true") for call in calls)
    assert answered.json["spent"]["tokens"] == 110 * asked["requests"]


def test_prompts_for_a_small_llm_are_short(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_AGENT_TOOL_CALLS", "false")
    assert world("ask", QUESTION).code == 0
    longest = max(sum(len(m["content"]) for m in call.messages) for call in world.ledger.find(LLMCall))
    assert longest < 4800  # characters, some 1,200 tokens


def test_what_tools_are_worth_is_measured(world: Commands, agent: Stub) -> None:
    assert world("ask", QUESTION).code == 0
    use = {(row["tool"], row["step"]): row for row in world.ledger.view("tool_use")}
    pairs, profile, unused = (
        use["minimal_pairs", "test"], use["latent_profile", "observe"], use["nearest_latents", "observe"],
    )  # fmt: skip
    assert (pairs["used"], pairs["decided"], pairs["cited"], pairs["useful"]) == (1, 1, 1, 1)
    assert (profile["used"], profile["decided"], profile["cited"]) == (1, 0, 1)
    assert (unused["used"], unused["useful"]) == (0, 0)
    assert unused["offered"] >= 1
    assert use["minimal_pairs", "predict"]["offered"] == 1
    steps = {offer.step for offer in world.ledger.find(ToolOffer)}
    assert steps == {"frame", "observe", "hypothesise", "predict", "refine", "conclude"}


REFINED = {"reading": "not yet", "of": "H1", "claim": "it fires on colours, in version #"}


def fresh_tests() -> list[dict[str, Any]]:
    """Tests that differ, so that each brings something new; only the first is about the dull rival, too."""
    words = ["ba", "da", "fa", "ga", "la", "ma", "na", "pa", "ra"]
    inputs = [{"pairs": [{"with_cause": f"{word} red da", "without_cause": f"{word} cat da"}]} for word in words]
    both, one = expect(H1=">=", H2="<"), expect(H1=">=")
    return [{"input": input, "expect": one if number else both} for number, input in enumerate(inputs)]


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ({"acts": acts(minimal_pairs=fresh_tests(), refine=REFINED, finish={})}, ["--rounds", "2"], "rounds"),
        ({"acts": acts(refine=REFINED)}, ["--rounds", "9"], "no new information"),
        ({"behaviour": "unknown_tool"}, [], "unusable replies"),
        ({"behaviour": "malformed"}, [], "unusable replies"),
        ({"behaviour": "silent"}, [], "unusable replies"),
        ({"behaviour": "refusal"}, [], "unusable replies"),
        ({"acts": acts(frame={"about": "latent", "latent": 99999, "aim": "?"})}, [], "unusable replies"),
        ({"acts": acts(frame={"about": "nothing"})}, [], "unusable replies"),
        ({"acts": acts(minimal_pairs={"input": {"pairs": "none"}, "expect": expect(H1=">=")})}, [], "no new information"),
        ({"acts": acts()}, ["--tool-calls", "2"], "tool calls"),
        ({"acts": acts()}, ["--max-tokens", "200"], "tokens"),
        ({"acts": acts()}, ["--max-usd", "0.004"], "dollars"),
        ({"acts": acts(), "latency_s": 5}, ["--minutes", "0.05"], "minutes"),
    ],
)
def test_whatever_the_llm_does_the_run_ends(
    world: Commands, agent: Stub, script: dict[str, Any], limits: list[str], reason: str
) -> None:
    order = ("refine", "frame", "enough", "state_hypotheses", "minimal_pairs", "finish", "conclude")
    if "acts" in script:
        script = script | {"acts": {name: script["acts"][name] for name in order if script["acts"].get(name) is not None}}
        if "refine" not in script["acts"] and reason == "no new information":
            script["acts"] = {"refine": REFINED, **script["acts"]}
    agent.configure(**script)
    ended = world("ask", QUESTION, "--json", *limits)
    assert ended.code == 3, ended.err
    assert ended.json["reason"] == reason
    assert ended.json["claims"]
    assert agent.stats()["requests"] < 60
    assert verify(world.ledger) == []
    (row,) = world.ledger.sql("SELECT reason FROM conclusions")[1]
    assert row == (reason,)


def test_a_wrong_citation_goes_back_to_the_llm(world: Commands, agent: Stub) -> None:
    claims = acts()["conclude"]["claims"]
    wrong = [
        [claims[0] | {"evidence": ["E9"]}],
        [claims[0] | {"evidence": ["E1"]}, claims[1] | {"stance": "for"}],
    ]
    agent.configure(acts=acts(conclude=[{"claims": each} for each in wrong] + [{"claims": claims}]))
    answered = world("ask", QUESTION, "--json")
    assert answered.code == 0
    assert len(answered.json["claims"]) == 4
    first, second = agent.stats()["asked"][-2:]
    assert "Claim 1 cites E9, which does not exist" in first
    assert "Claim 1 cites E1, which tested no prediction of that hypothesis" in second
    assert "Claim 2 cites E3 for the hypothesis, but the prediction failed there" in second


def test_a_claim_that_is_never_proven_becomes_a_conjecture(world: Commands, agent: Stub) -> None:
    claim = {"sentence": "Position is all.", "hypothesis": "H2", "stance": "for", "evidence": ["E3"]}
    agent.configure(acts=acts(conclude={"claims": [claim]}))
    answered = world("ask", QUESTION, "--json")
    assert answered.code == 0
    stubborn, *verdicts = answered.json["claims"]
    assert (stubborn["sentence"], stubborn["conjecture"], stubborn["evidence"]) == ("Position is all.", True, [])
    assert [(v["author"], v["stance"]) for v in verdicts] == [("code", "for"), ("code", "against")]
    (row,) = world.ledger.view("claims_without_evidence")
    assert row["sentence"] == "Position is all."


def test_a_test_that_was_run_is_no_prediction(world: Commands, agent: Stub) -> None:
    """Known results cannot be predicted, and rivals must be told apart by some test."""
    same = {"input": PAIRS, "expect": expect(H1=">=")}
    other = {"input": OTHER_PAIRS, "expect": expect(H1="<", H2=">=")}
    agent.configure(acts=acts(minimal_pairs=[same, same, other]))
    assert world("ask", QUESTION).code == 0
    asked = agent.stats()["asked"]
    assert any("a prediction of H2; a test of which two hypotheses expect different outcomes" in text for text in asked)
    assert any("registered already: design another test" in text for text in asked)


def test_bad_arguments_are_told_to_the_llm(world: Commands, agent: Stub) -> None:
    equal = {"input": {"pairs": [{"with_cause": "ba red", "without_cause": "ba red"}]}, "expect": expect(H1=">=")}
    unlike = {"input": {"pairs": [{"with_cause": "ba red", "without_cause": "mo cat"}]}, "expect": expect(H1=">=")}
    nobody = {"input": PAIRS, "expect": expect(H7=">=")}
    agent.configure(acts=acts(minimal_pairs=[equal, unlike, nobody, acts()["minimal_pairs"]]))
    assert world("ask", QUESTION).code == 0
    asked = " ".join(agent.stats()["asked"])
    assert "the two texts of a pair are the same" in asked
    assert "too few words in common" in asked
    assert "say once for each of H1, H2 what it expects" in asked


def test_threads_that_cannot_be_taken_up(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no thread 'never': this workspace has none yet" in world("ask", "--thread", "never").sentence
    assert world("ask", QUESTION, "--thread", "known").code == 0
    assert "this workspace has known" in world("ask", "--thread", "never").sentence
    assert "has concluded" in world("ask", "--thread", "known").sentence
    assert "Ask a question" in world("ask").sentence
    assert "empty" in world("ask", " ").sentence
    with monkeypatch.context() as patch:
        patch.setattr("tests.tools.world.PlantedSubject.fingerprint", "another")
        patch.setattr("agent.session.Session.find_harvest", lambda self: self.harvests()[0])
        assert "another subject" in world("ask", QUESTION, "--thread", "known").sentence
    monkeypatch.setattr("agent.state.VERSION", 2)
    assert "another version" in world("ask", QUESTION, "--thread", "known").sentence


def test_a_thread_remembers_what_was_asked(world: Commands, agent: Stub) -> None:
    assert world("ask", QUESTION, "--thread", "t").code == 0
    assert world("ask", QUESTION, "--thread", "t").code == 0
    assert "It fires on colours." in agent.stats()["asked"][-1].partition("Question:")[0]


def test_the_endpoint_dies_in_mid_stream(world: Commands, agent: Stub) -> None:
    agent.script("agent", "agent", "stream_dies")
    died = world("ask", QUESTION, "--thread", "t")
    assert died.code == 2
    assert "broke" in died.err
    answered = world("ask", "--thread", "t", "--json")
    assert answered.json["reason"] == "concluded"
    assert len(world.ledger.find(Investigation)) == 1
    assert all(len(world.ledger.find(Experiment, tool=tool)) == 1 for tool in ("latent_profile", "top_examples"))


HOLD = """
import sys, time, duckdb
with duckdb.connect(sys.argv[1]): print("held", flush=True); time.sleep(60)
"""


def test_the_store_is_held(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ledger.append(LLMCall(role="judge", template="t.v1", template_hash="x", request="y", model="m", parameters={},
                                messages=(), reply="r", prompt_tokens=1, completion_tokens=1, seconds=1))  # fmt: skip
    monkeypatch.setenv("GLOSSATOR_STORE_WAIT_S", "0.3")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(world.ledger.store.path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        held = world("ask", QUESTION, "--thread", "t")
    finally:
        holder.kill()
        holder.wait()
    assert held.code == 2
    assert f"process {holder.pid}" in held.err
    assert world("ask", QUESTION, "--thread", "t").code == 0


@pytest.mark.parametrize("where", ["tools.lookup.top_examples.need_firings", "agent.measure.brief"])
def test_a_killed_run_goes_on_and_repeats_nothing(
    world: Commands, agent: Stub, background: Callable[..., Running], where: str
) -> None:
    """Killed in the middle of a tool call, and between a finished experiment and its checkpoint."""
    running = background(world.folder, "ask", QUESTION, "--thread", "t", hang_in=where)
    deadline = time.monotonic() + 60
    while not (world.folder / "hanging").exists():
        assert time.monotonic() < deadline, running.err
        time.sleep(0.05)
    paid = agent.stats()["requests"]
    running.signal(signal.SIGKILL)
    running.wait()
    assert world.rows("SELECT count(*) FROM experiments")[0][0] == 1
    answered = world("ask", "--thread", "t", "--json")
    assert answered.code == 0, answered.err
    assert answered.json["reason"] == "concluded"
    assert world.rows("SELECT count(*) FROM experiments GROUP BY key") == [(1,)] * 3
    assert len(world.ledger.find(Investigation)) == 1
    assert agent.stats()["distinct"] == agent.stats()["requests"] > paid
    assert verify(world.ledger) == []


async def events(world: Commands, question: str | None, limits: Limits, resume: Any = None) -> list[Any]:
    with open_session(load({"workspace": world.workspace})) as session:
        return [event async for event in investigate(session, question, "t", limits, resume)]


def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a test on minimal pairs is estimated to take an hour."""
    from dataclasses import replace

    from tools.workbench import registry

    registry.tools()
    costly = replace(registry.get_tool("minimal_pairs"), estimate=lambda input, context: 3600.0)
    monkeypatch.setitem(registry._tools, "minimal_pairs", costly)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_dear_tool_waits_for_approval(
    world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    import asyncio

    dear(monkeypatch)
    limits = Limits(interactive=True)
    first = asyncio.run(events(world, QUESTION, limits))
    assert isinstance(first[-1], ApprovalNeeded)
    assert "3,600 s" in first[-1].estimate
    assert "".join(event.text for event in first if isinstance(event, TextDelta)).startswith("Let me see.")
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    rest = asyncio.run(events(world, None, limits, resume=allowed))
    assert len(world.ledger.find(Experiment, tool="minimal_pairs")) == allowed
    (end,) = (event for event in rest if isinstance(event, Concluded))
    assert end.claims[0].conjecture != allowed


def test_a_batch_refuses_a_dear_tool(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    dear(monkeypatch)
    world("ask", QUESTION)
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    assert any("nobody is here to approve it" in text for text in agent.stats()["asked"])


def test_old_rows_keep_their_ids(tmp_path: Path) -> None:
    """A store from before the second migration, opened by this program."""
    import duckdb

    path = tmp_path / "store.duckdb"
    ledger = Ledger(path)
    first = Path("store/migrations/0001_facts.sql") if Path("store").exists() else None
    script = first or Path(sys.modules["store"].__path__[0]) / "migrations" / "0001_facts.sql"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE migrations (file VARCHAR, sha256 VARCHAR, applied_at TIMESTAMP)")
        from store.migrate import Script

        text = script.read_text()
        connection.execute(text)
        connection.execute(
            "INSERT INTO migrations VALUES ('migrations/0001_facts.sql', ?, now()::TIMESTAMP)",
            [Script("x", text).sha256],
        )
        connection.execute(
            "INSERT INTO hypotheses VALUES ('c23f41cec8c1f86e217b5864', TIMESTAMP '2026-01-02 03:04:05', 'a', 'b', NULL)"
        )
    assert verify(ledger) == []
