import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prompts.ask import LLM, Answer
from prompts.cache import ReplyCache
from prompts.providers import Role
from store.errors import UserError
from tests.prompts.conftest import Door, question
from tests.stub_llm import ROOT, Stub


async def ask(llm: LLM, i: int = 0) -> Answer:
    return await llm.ask(Role.JUDGE, "judge_detection", question(i), top_logprobs=5, max_tokens=1)


def test_the_same_request_is_sent_once_across_runs(door: Door):
    first, second = door.run(ask), door.run(ask)
    assert door.stub.stats()["requests"] == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.call_id == second.call_id
    assert first.logprobs == second.logprobs == {"1": -0.05, "0": -3.0}
    assert [call.id for call in door.calls()] == [first.call_id]


def test_identical_requests_in_flight_are_shared(door: Door):
    door.stub.configure(latency_s=0.2)

    async def thirty(llm: LLM) -> list[Answer]:
        return await asyncio.gather(*(ask(llm) for _ in range(30)))

    answers = door.run(thirty)
    assert door.stub.stats()["requests"] == 1
    assert len({answer.call_id for answer in answers}) == 1


def test_another_model_parameter_or_message_is_another_request(door: Door):
    door.run(ask)
    door.run(ask, model="other")
    door.run(ask, temperature=0.7)
    door.run(lambda llm: ask(llm, 1))
    door.run(lambda llm: llm.ask(Role.JUDGE, "judge_detection", question(), top_logprobs=4, max_tokens=1))
    assert door.stub.stats()["requests"] == 5


def test_a_cached_reply_reaches_the_ledger_of_another_workspace(door: Door, tmp_path: Path):
    first = door.run(ask)
    other = Door(door.stub, tmp_path / "other")
    other.cache = door.cache
    other.run(ask)
    other.ledger.close()
    assert [call.id for call in other.calls()] == [first.call_id]


def test_what_is_sent_is_kept_when_the_caller_is_cancelled(door: Door):
    door.stub.configure(latency_s=0.4)

    async def cancelled(llm: LLM) -> None:
        task = asyncio.ensure_future(ask(llm))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    door.run(cancelled)
    assert door.run(ask).cached
    assert door.stub.stats()["requests"] == 1


RUN = """
import asyncio, json, sys
from pathlib import Path
from prompts.ask import LLM
from prompts.providers import Endpoint, Role
from store.ledger import Ledger

async def main(base_url, folder, n):
    endpoint = Endpoint(base_url=base_url, model="stub")
    llm = LLM({Role.JUDGE: endpoint}, Ledger(Path(folder) / "store.duckdb"), Path(folder) / "cache.sqlite", 4)
    values = [{"explanation": "days of the week", "snippet": f"snippet {i}"} for i in range(n)]
    answers = await llm.ask_many(Role.JUDGE, "judge_detection", values, top_logprobs=5, max_tokens=1)
    await llm.aclose()
    print(json.dumps([answer.call_id for answer in answers]))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_kill_9_loses_no_reply_that_arrived(door: Door, tmp_path: Path):
    n, in_flight = 60, 4
    door.stub.configure(latency_s=0.1)
    command = [sys.executable, "-c", RUN, door.stub.base_url, str(tmp_path), str(n)]
    killed = subprocess.Popen(command, cwd=ROOT)
    while door.stub.stats()["requests"] < 20:
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(0.3)  # what was in flight ends
    before = door.stub.stats()["requests"]
    assert before < n
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ids = json.loads(finished.stdout)
    stats = door.stub.stats()
    assert stats["distinct"] == n
    assert stats["requests"] <= n + in_flight, "only what was in flight at the kill may be sent again"
    assert len(set(ids)) == n
    assert {call.id for call in door.calls()} == set(ids)


def test_a_cache_that_is_no_database_is_one_sentence(tmp_path: Path):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"hello " * 1000)
    with pytest.raises(UserError, match=r"The reply cache .* cannot be used \(file is not a database\)"):
        ReplyCache(path)


def test_two_processes_share_the_cache(stub: Stub, tmp_path: Path):
    first, second = ReplyCache(tmp_path / "c.sqlite"), ReplyCache(tmp_path / "c.sqlite")
    opened = Door(stub, tmp_path)
    answer = opened.run(ask)
    call = opened.calls()[0]
    first.put(call)
    assert second.get(call.request) == call
    assert call.id == answer.call_id
    opened.ledger.close()


def test_replies_that_cost_nothing_are_not_waited_for(door: Door):
    door.stub.configure(latency_s=30)

    async def left(llm: LLM) -> None:
        task = asyncio.ensure_future(ask(llm))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])

    started = time.monotonic()
    door.run(left, prices=(0.0, 0.0), timeout_s=60)
    assert time.monotonic() - started < 5
