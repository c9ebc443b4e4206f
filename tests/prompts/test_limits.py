import asyncio
import time

import pytest

from prompts.ask import LLM
from prompts.budget import Budget
from prompts.errors import BudgetSpent, NoAnswer
from prompts.limits import Gate
from prompts.providers import Role
from store.errors import UserError
from tests.prompts.conftest import Door, question


async def twenty(llm: LLM) -> list[object]:
    return list(await llm.ask_many(Role.JUDGE, "judge_detection", [question(i) for i in range(20)], max_tokens=1))


def test_no_more_than_so_many_are_in_flight(door: Door):
    door.stub.configure(latency_s=0.1)
    door.run(twenty, concurrency=5)
    assert door.stub.stats()["most_in_flight"] == 5


def test_requests_per_minute(door: Door):
    door.run(twenty, concurrency=20, requests_per_minute=1200)
    times = door.stub.stats()["times"]
    assert times[-1] - times[0] >= 19 * 0.05 * 0.9


def test_a_pause_holds_back_what_comes_after_it():
    async def paused() -> float:
        gate = Gate(None)
        await gate.passage()
        gate.pause(0.2)
        started = time.monotonic()
        await asyncio.gather(gate.passage(), gate.passage())
        return time.monotonic() - started

    assert 0.19 < asyncio.run(paused()) < 1.0


def test_max_calls_is_exact_and_cached_replies_are_free(door: Door):
    budget = Budget(max_calls=7)
    with pytest.raises(BudgetSpent, match="limit of 7 calls is reached"):
        door.run(twenty, budget=budget)
    assert door.stub.stats()["requests"] == 7
    again = Budget(max_calls=13)
    assert not any(isinstance(answer, NoAnswer) for answer in door.run(twenty, budget=again))
    assert door.stub.stats()["requests"] == 20
    door.run(twenty, budget=Budget(max_calls=0))


def test_max_usd_is_never_passed(door: Door):
    door.stub.configure(latency_s=0.05)
    budget = Budget(max_usd=0.004)
    with pytest.raises(BudgetSpent, match=r"budget of 0\.004 USD is spent"):
        door.run(twenty, budget=budget, prices=(5.0, 0.0))  # the stub counts 100 prompt tokens: 0.0005 USD a call
    assert 0.002 < budget.usd <= 0.004
    assert budget.usd == pytest.approx(0.0005 * door.stub.stats()["requests"])
    assert sum(call.usd or 0 for call in door.calls()) <= budget.usd


def test_a_limit_in_dollars_needs_a_price(door: Door):
    with pytest.raises(UserError, match="price of stub is unknown, so a limit in dollars cannot be kept"):
        door.run(twenty, budget=Budget(max_usd=1))
    assert door.stub.stats()["requests"] == 0


def test_unknown_prices_are_counted_as_unknown(door: Door):
    budget = Budget()
    door.run(twenty, budget=budget)
    assert (budget.calls, budget.unpriced, budget.usd) == (20, 20, 0.0)


def test_max_hours(door: Door):
    with pytest.raises(BudgetSpent, match="time limit of 0 hours"):
        door.run(twenty, budget=Budget(max_hours=0))
    assert door.stub.stats()["requests"] == 0
