"""`glossator ask` ends whatever happens, goes on where it was stopped, and waits for leave to run what is dear."""

import asyncio
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
from agent.session import open_session
from agent.settings import load
from prompts.providers import Role
from store.types import Experiment, Investigation, LLMCall
from store.verify import verify
from tests.agent.agent_script import QUESTION, acts, expect
from tests.agent.conftest import Commands
from tests.agent.planted_cli import Running
from tests.stub_llm import Stub
from tools.workbench import registry

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


def test_a_batch_refuses_a_dear_tool(world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    dear(monkeypatch, SECONDS)
    world("ask", QUESTION)
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    assert any("nobody is here to approve it" in text for text in agent.stats()["asked"])
