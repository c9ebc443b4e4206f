"""The rate of `ask_many`, recording and cache included, beside the bare client's, against one stub.

    python -m tests.benchmarks.llm [--requests 1600] [--in-flight 32] [--latency 0.2] [--rounds 3]

Each round runs the bare `AsyncOpenAI` client and then `ask_many`, on new requests; the ratio is that of the medians.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from openai import AsyncOpenAI

from prompts.ask import LLM
from prompts.providers import Endpoint, Role
from prompts.template import load
from store.ledger import Ledger
from tests.stub_llm import Stub

TEMPLATE = "judge_detection"


def values(round_: int, n: int) -> list[dict[str, str]]:
    return [{"explanation": "days of the week", "snippet": f"number {i} of round {round_}"} for i in range(n)]


async def bare(base_url: str, items: list[dict[str, str]], in_flight: int) -> float:
    """Requests a second of the SDK alone, no more than `in_flight` at once."""
    slots = asyncio.Semaphore(in_flight)
    template = load(TEMPLATE)
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:

        async def one(item: dict[str, str]) -> None:
            async with slots:
                await client.chat.completions.create(
                    model="stub", messages=template.render(**item), max_tokens=1, logprobs=True, top_logprobs=20
                )

        started = time.monotonic()
        await asyncio.gather(*map(one, items))
        return len(items) / (time.monotonic() - started)


async def ours(base_url: str, items: list[dict[str, str]], in_flight: int, folder: Path) -> float:
    """Requests a second through `ask_many`, each one in the cache and committed to the ledger."""
    ledger = Ledger(folder / "store.duckdb")
    endpoint = Endpoint(base_url=base_url, model="stub")
    llm = LLM({Role.JUDGE: endpoint}, ledger, folder / "cache.sqlite", concurrency=in_flight)
    started = time.monotonic()
    await llm.ask_many(Role.JUDGE, TEMPLATE, items, top_logprobs=20, max_tokens=1)
    rate = len(items) / (time.monotonic() - started)
    await llm.aclose()
    ledger.close()
    return rate


def measure(requests: int = 1600, in_flight: int = 32, latency_s: float = 0.2, rounds: int = 3) -> dict[str, float]:
    """Requests a second: `bare` and `ours` (medians of the rounds), `ideal`, and `ratio` = ours / bare."""
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    with Stub(latency_s=latency_s) as stub, tempfile.TemporaryDirectory() as folder:
        for round_ in range(rounds):
            rates["bare"].append(asyncio.run(bare(stub.base_url, values(2 * round_, requests), in_flight)))
            new = values(2 * round_ + 1, requests)
            rates["ours"].append(asyncio.run(ours(stub.base_url, new, in_flight, Path(folder))))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {**medians, "ideal": in_flight / latency_s, "ratio": medians["ours"] / medians["bare"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1600)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds the stub takes for each reply")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.requests, chosen.in_flight, chosen.latency, chosen.rounds), indent=2))
