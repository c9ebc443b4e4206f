"""One stub server for these tests, and a door to it with a ledger and a cache of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from prompts.ask import LLM
from prompts.budget import Budget
from prompts.providers import Endpoint, Role
from store.ledger import Ledger
from store.types import LLMCall
from tests.stub_llm import Stub

T = TypeVar("T")


@pytest.fixture(scope="session")
def running_stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def stub(running_stub: Stub) -> Stub:
    running_stub.reset()
    return running_stub


class Door:
    """Runs a coroutine with an `LLM` that speaks to the stub."""

    def __init__(self, stub: Stub, folder: Path) -> None:
        self.stub = stub
        self.ledger = Ledger(folder / "store.duckdb")
        self.cache = folder / "cache.sqlite"

    def run(
        self,
        use: Callable[[LLM], Awaitable[T]],
        *,
        concurrency: int = 8,
        requests_per_minute: int | None = None,
        budget: Budget | None = None,
        from_records: bool = False,
        **endpoint: Any,
    ) -> T:
        settings = {"base_url": self.stub.base_url, "model": "stub", "retries": 2, "timeout_s": 5, **endpoint}

        async def inside() -> T:
            endpoints = {role: Endpoint(**settings) for role in Role}
            limits = (concurrency, requests_per_minute, budget)
            llm = LLM(endpoints, self.ledger, self.cache, *limits, from_records=from_records)
            try:
                return await use(llm)
            finally:
                await llm.aclose()

        return asyncio.run(inside())

    def calls(self) -> list[LLMCall]:
        return self.ledger.find(LLMCall)


@pytest.fixture
def door(stub: Stub, tmp_path: Path) -> Iterator[Door]:
    opened = Door(stub, tmp_path)
    yield opened
    opened.ledger.close()


def question(i: int = 0) -> dict[str, str]:
    return {"explanation": "days of the week", "snippet": f"snippet {i}"}
