"""`glossator ask` on the planted world, its LLM scripted: from the question to claims that cite their evidence."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.inquiry.events import ApprovalNeeded, Concluded, Spent, TextDelta
from agent.inquiry.investigate import investigate
from agent.inquiry.limits import Limits
from agent.inquiry.small import FEWEST, RIVAL, asks_more
from agent.session import open_session
from agent.settings import load
from prompts.providers import Role
from store.types import Experiment, Hypothesis, Investigation, Judgement, LLMCall, Prediction, ToolOffer
from store.verify import verify
from tests.agent.agent_script import (
    HELD,
    OTHER_PAIRS,
    PAIRS,
    QUESTION,
    SEVENTH,
    SILENT,
    SMALL_QUESTION,
    acts,
    expect,
    small_acts,
)
from tests.agent.conftest import Commands
from tests.agent.planted_cli import Running, planted_text
from tests.stub_llm import Stub
from tests.tools.world import COLOUR, N_LATENTS
from tools.workbench import registry


@pytest.fixture
def agent(llm: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as the agent's LLM, which calls tools natively."""
    monkeypatch.setenv("GLOSSATOR_LLM_RETRIES", "0")
    llm.configure(behaviour="agent", acts=acts())
    return llm


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


@pytest.fixture
def small(agent: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as an LLM without tool calls."""
    monkeypatch.setenv("GLOSSATOR_AGENT_TOOL_CALLS", "false")
    agent.configure(acts=small_acts())
    return agent


def test_a_small_llm_concludes_in_three_replies(world: Commands, small: Stub) -> None:
    """Who picks the words sees the hypothesis and the words, none of which was shown; the level of each test is set
    before it by how many there were."""
    answered = world("ask", SMALL_QUESTION, "--json")
    assert answered.code == 0, answered.err
    right, wrong = world.ledger.find(Experiment, tool="minimal_pairs")
    assert [(c["sentence"], c["stance"], c["evidence"], c["author"]) for c in answered.json["claims"]] == [
        ("It fires on every seventh word.", "for", [right.id], "llm"),
        (
            'The hypothesis "it fires on every seventh word" passed 1 of 1 registered predictions (test 1 of 2: '
            f"p {right.output['p']:.2g}, 0.025 at most).",
            "for", [right.id], "code",
        ),
        (
            'The hypothesis "it fires on words of one syllable" failed 1 of 1 registered predictions (test 2 of 2: '
            f"p {wrong.output['p']:.2g}, 0.0083 at most).",
            "against", [wrong.id], "code",
        ),
        (
            f'The dull hypothesis "{RIVAL}" failed 1 of 1 registered predictions (test 1 of 2: '
            f"p {right.output['p']:.2g}, 0.025 at most).",
            "against", [right.id], "code",
        ),
    ]  # fmt: skip
    causes = {pair["cause"] for pair in right.input["pairs"]}
    words = causes | {pair["instead"] for pair in right.input["pairs"]}
    assert len(causes) >= FEWEST
    assert causes <= set(SEVENTH)
    assert not (words - causes) & set(SEVENTH)
    assert {pair["cause"] for pair in wrong.input["pairs"]} == set(SILENT)
    looked, examples = world.ledger.find(Experiment)[:2]
    assert (looked.tool, examples.tool) == ("firing_words", "top_examples")
    first, second, third = world.ledger.find(LLMCall)
    told = first.messages[-1]["content"]
    assert f"Question: {SMALL_QUESTION}" in told
    assert all(f"<<{word}>>" not in told for word in causes)
    assert not causes & {each["word"] for each in looked.output["words"]}
    for picking in (second, third):
        assert picking.template == "investigate_choose.v1"
        assert picking.messages[-1]["content"].startswith("Kind: ")
        assert "E1" not in "".join(message["content"] for message in picking.messages)
    assert set(re.findall(r'"(\w+)"', second.messages[-1]["content"])) >= words
    assert "Kind: every seventh word\n" in second.messages[-1]["content"]
    assert small.stats()["requests"] == 3
    assert sum(len(message["content"]) for message in first.messages) < 6000  # characters, some 1,500 tokens
    assert verify(world.ledger) == []
    assert not world.ledger.find(Investigation)[0].native


def test_hypotheses_that_hold_together_are_not_told_apart(world: Commands, small: Stub) -> None:
    small.configure(acts=small_acts(minimal_pairs=[{"fits": [*HELD, "to"]}, {"fits": [*HELD, "moon"]}]))
    answered = world("ask", SMALL_QUESTION, "--json")
    assert [claim["stance"] for claim in answered.json["claims"]] == ["for", "for", "for", "for", "against", None]
    last = answered.json["claims"][-1]
    assert (last["conjecture"], last["author"]) == (True, "code")
    assert last["sentence"].startswith("2 hypotheses held, each by itself: no test told them apart")


def test_few_words_are_no_test(world: Commands, small: Stub) -> None:
    """A latent whose words were all shown: nothing is tested, and that is said."""
    answered = world("ask", f"does ablating latent {COLOUR} make the model sadder?", "--json")
    assert answered.code == 3, answered.err
    assert answered.json["reason"] == "no new words"
    answers, *rest, seen = answered.json["claims"]
    assert answers["sentence"].startswith(f"Answered is no more than what latent {COLOUR} fires on")
    assert any(claim["sentence"] == "No minimal pair was tested." for claim in rest)
    assert seen["sentence"].startswith("Seen: 3 words make it fire as a rule")
    assert small.stats()["requests"] == 1
    assert verify(world.ledger) == []


@pytest.mark.parametrize(
    ("question", "more"),
    [
        ("what does latent 41 do?", False),
        ("On which tokens does the feature #41 fire?", False),
        ("What makes latent 41 fire", False),
        ("does ablating latent 41 make the model sadder?", True),
        ("what does ablating latent 41 do?", True),
        ("what does latent 41 do to the logits?", True),
    ],
)
def test_a_small_llm_knows_one_kind_of_question(question: str, more: bool) -> None:
    assert asks_more(question) is more


def test_a_small_llm_refines_what_did_not_stand(world: Commands, small: Stub) -> None:
    """What was not tested, for no word that was offered was picked, is replaced by another hypothesis."""
    tests = [{"fits": ["moon"] * 5}, {"fits": SILENT}]
    refine = {"of": "H1", "claim": "every seventh of the words"}
    small.configure(acts={"refine": refine} | small_acts(minimal_pairs=tests))
    answered = world("ask", SMALL_QUESTION, "--json")
    told = small.stats()["asked"]
    verdicts = "H1 untested. H2 refuted by E3. H3 (dull) untested. It fired on "
    assert verdicts in told[3]
    assert set(told[3].partition(verdicts)[2].partition(";")[0].split(", ")) <= set(SEVENTH)
    assert told[3].endswith("Refine H1.")
    (test,) = world.ledger.find(Experiment, tool="minimal_pairs")
    assert test.input["level"] == pytest.approx(0.025)
    assert answered.json["reason"] == "no new words", "the few of this world were tried"
    assert [h.claim for h in world.ledger.find(Hypothesis)][-1] == "it fires on every seventh of the words"
    assert verify(world.ledger) == []


def test_a_small_llm_that_repeats_itself_is_not_asked_on(world: Commands, small: Stub) -> None:
    refine = {"of": "H1", "claim": "every seventh word, such as po"}
    small.configure(acts={"refine": refine} | small_acts(minimal_pairs={"fits": SILENT}))
    ended = world("ask", SMALL_QUESTION, "--json")
    assert (ended.code, ended.json["reason"]) == (3, "no other hypothesis")
    assert small.stats()["requests"] == 3 + 2


def test_what_was_never_tested_is_not_concluded(world: Commands, small: Stub) -> None:
    """A small LLM that picks no word: the end names the limit, and what was seen is all that is claimed."""
    small.configure(acts=small_acts() | {"minimal_pairs": {"fits": ["nothing"] * 5}})
    ended = world("ask", SMALL_QUESTION, "--json")
    assert ended.code == 3
    assert ended.json["reason"] in ("no new information", "unusable replies")
    *untested, seen = ended.json["claims"]
    assert all(claim["conjecture"] for claim in untested)
    assert untested[2]["sentence"].endswith("was not decided by any test, so it is not excluded.")
    assert untested[3]["sentence"] == "No minimal pair was tested."
    assert "words make it fire as a rule" in seen["sentence"]
    assert seen["evidence"]
    assert small.stats()["requests"] < 12


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


REFINED = {"reading": "not yet", "of": "H1", "claim": "it fires on colours, in version #"}


def fresh_tests() -> list[dict[str, Any]]:
    """Tests that differ, so that each brings something new; only the first is about the dull rival, too."""
    words = ["ba", "da", "fa", "ga", "la", "ma", "na", "pa", "ra"]
    inputs = [{"pairs": [{"text": f"{word} red da", "cause": "red", "instead": "cat"}]} for word in words]
    both, one = expect(H1=">=", H2="<"), expect(H1=">=")
    return [{"input": input, "expect": one if number else both} for number, input in enumerate(inputs)]


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ({"acts": acts(minimal_pairs=fresh_tests())}, ["--rounds", "2"], "rounds"),
        ({"acts": acts()}, ["--rounds", "9"], "no new information"),
        ({"behaviour": "unknown_tool"}, [], "unusable replies"),
        ({"behaviour": "malformed"}, [], "unusable replies"),
        ({"behaviour": "silent"}, [], "unusable replies"),
        ({"behaviour": "refusal"}, [], "unusable replies"),
        ({"acts": acts(frame={"about": "latent", "latent": 99999, "aim": "?"})}, [], "unusable replies"),
        ({"acts": acts(frame={"about": "nothing"})}, [], "unusable replies"),
        ({"acts": acts(minimal_pairs={"input": {"pairs": 7}, "expect": expect(H1="<")})}, [], "no new information"),
        ({"acts": acts()}, ["--tool-calls", "2"], "tool calls"),
        ({"acts": acts()}, ["--max-tokens", "200"], "tokens"),
        ({"acts": acts()}, ["--max-usd", "0.004"], "dollars"),
        ({"acts": acts(), "latency_s": 2}, ["--minutes", "0.01"], "minutes"),
    ],
)
def test_whatever_the_llm_does_the_run_ends(
    world: Commands, agent: Stub, script: dict[str, Any], limits: list[str], reason: str
) -> None:
    if reason in ("rounds", "no new information"):
        script = script | {"acts": {"refine": REFINED, **script["acts"]}}  # preferred to finishing
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
    monkeypatch.setattr("agent.state.VERSION", 5)
    assert "another version" in world("ask", QUESTION, "--thread", "known").sentence


def test_a_latent_that_is_not_there_is_said_before_a_harvest_is_made(world: Commands, agent: Stub) -> None:
    shutil.rmtree(world.workspace)
    made = ("--corpus", planted_text(world.folder), "--tokens", 16_000)
    assert f"0 to {N_LATENTS - 1}" in world("ask", "what does latent 99999 do?", *made).sentence
    assert not (world.workspace / "activations").exists()


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


@pytest.mark.parametrize("where", ["tools.lookup.top_examples.need_firings", "agent.inquiry.measure.brief"])
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


SECONDS = {"estimate": lambda input, context: 3600.0}
DOLLARS = {"asks": (Role.JUDGE,), "calls": lambda input, context: 10_000}  # at 1 and 2 dollars a million tokens


def dear(monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]) -> None:
    """From now on a test on minimal pairs is estimated to take an hour, or to cost five dollars."""
    registry.tools()
    monkeypatch.setitem(registry._tools, "minimal_pairs", replace(registry.get_tool("minimal_pairs"), **how))


@pytest.mark.parametrize(
    ("how", "allowed", "told"),
    [(SECONDS, True, "3,600 s, more than the 300 s"), (DOLLARS, False, "$5.00, more than the $1.00")],
)
def test_a_dear_tool_waits_for_approval(
    world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], allowed: bool, told: str
) -> None:
    dear(monkeypatch, how)
    limits = Limits(interactive=True)
    first = asyncio.run(events(world, QUESTION, limits))
    assert isinstance(first[-1], ApprovalNeeded)
    assert told in first[-1].estimate
    assert "".join(event.text for event in first if isinstance(event, TextDelta)).startswith("Let me see.")
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    rest = asyncio.run(events(world, None, limits, resume=allowed))
    assert len(world.ledger.find(Experiment, tool="minimal_pairs")) == allowed
    (end,) = (event for event in rest if isinstance(event, Concluded))
    assert end.claims[0].conjecture != allowed


def test_a_thread_that_goes_on_counts_from_where_it_was(world: Commands, agent: Stub) -> None:
    agent.script("agent", "agent", "stream_dies")
    assert world("ask", QUESTION, "--thread", "t").code == 2
    rest = asyncio.run(events(world, None, Limits()))
    first = next(event for event in rest if isinstance(event, Spent))
    assert (first.tokens, first.tool_calls) == (220, 2), "before anything is asked"


def test_an_endpoint_that_is_down_is_told_before_anything_is_loaded(
    world: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "some")
    monkeypatch.setattr("agent.session.Session.harvest", lambda self: pytest.fail("the subject was loaded"))
    assert "Nothing answers at http://127.0.0.1:9/v1" in world("ask", QUESTION).sentence


def test_a_batch_refuses_a_dear_tool(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    dear(monkeypatch, SECONDS)
    world("ask", QUESTION)
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    assert any("nobody is here to approve it" in text for text in agent.stats()["asked"])


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
