"""A run that is stopped at any moment goes on from there: checkpoints are written whole, and what is open is known."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from agent.inquiry.events import Concluded, Event
from agent.inquiry.investigate import investigate
from agent.inquiry.limits import Limits
from agent.inquiry.threads import Saver
from agent.session import Session, open_session
from agent.settings import load
from store.errors import UserError
from store.types import Experiment
from tests.agent.agent_script import QUESTION, acts
from tests.agent.conftest import Commands
from tests.stub_llm import Stub


async def listen(
    session: Session, question: str | None, heard: list[Event], enough: asyncio.Event, events: int
) -> None:
    async with aclosing(investigate(session, question, "t", Limits())) as told:
        async for event in told:
            heard.append(event)
            if len(heard) >= events:
                enough.set()


@pytest.mark.parametrize(("events", "later_s"), [(1, 0.0), (5, 0.02), (8, 0.0), (16, 0.05)])
def test_stopped_anywhere_it_goes_on(events: int, later_s: float, world: Commands, llm: Stub) -> None:
    llm.configure(behaviour="agent", acts=acts())

    async def stop_and_go_on() -> list[Event]:
        heard: list[Event] = []
        enough = asyncio.Event()
        with open_session(load()) as session:
            running = asyncio.create_task(listen(session, QUESTION, heard, enough, events))
            await enough.wait()
            await asyncio.sleep(later_s)
            running.cancel()
            await asyncio.wait([running])
            await listen(session, None, heard, enough, events)
        return heard

    assert sum(isinstance(event, Concluded) for event in asyncio.run(stop_and_go_on())) == 1
    keys = [experiment.key for experiment in world.ledger.find(Experiment)]
    assert len(keys) == len(set(keys)) == 3, "nothing that finished ran twice"


def test_cut_off_after_its_conclusion_it_still_tells_it(
    world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm.configure(behaviour="agent", acts=acts())
    put = Saver.aput

    async def cut_off(self: Saver, config: Any, checkpoint: Any, *more: Any) -> Any:
        case = checkpoint["channel_values"].get("case")
        if case and case["next"] == "end":
            raise ConnectionError("cut off")
        return await put(self, config, checkpoint, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Saver, "aput", cut_off)
        with pytest.raises(ConnectionError):
            world("ask", QUESTION, "--thread", "t")
    again = world("ask", "--thread", "t", "--json")
    assert again.code == 0
    assert again.json["claims"][0]["sentence"] == "It fires on colours."
    assert "has concluded" in world("ask", "--thread", "t").sentence


def test_a_thread_is_worked_on_once_at_a_time(world: Commands, llm: Stub) -> None:
    llm.configure(behaviour="agent", acts=acts())

    async def twice() -> None:
        first: list[Event] = []
        enough = asyncio.Event()
        with open_session(load()) as session:
            running = asyncio.create_task(listen(session, QUESTION, first, enough, 1))
            await enough.wait()
            with pytest.raises(UserError, match="is at work elsewhere"):
                await listen(session, QUESTION, [], asyncio.Event(), 1)
            await running
        assert any(isinstance(event, Concluded) for event in first)

    asyncio.run(twice())
