"""How long does anybody wait for the store? Two writers append 50-row transactions while four readers query.

    python -m tests.benchmarks.store [--seconds 30]

Every process opens, uses and closes the store as fast as it can, through `Ledger`, as the program does. Printed: the
number of operations, the wait for a turn (from asking to holding an open connection) and the whole operation.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from store.db import Store
from store.ledger import Ledger
from store.types import Hypothesis

WRITERS, READERS, ROWS = 2, 4, 50


@dataclass
class Outcome:
    """What one process saw; times in seconds."""

    role: str
    waits: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    transactions: int = 0
    torn: int = 0
    error: str = ""


class TimedStore(Store):
    """A store that notes how long each turn was waited for."""

    waits: list[float]

    @contextmanager
    def write(self):
        asked = time.perf_counter()
        with super().write() as connection:
            self.waits.append(time.perf_counter() - asked)
            yield connection

    @contextmanager
    def read(self):
        asked = time.perf_counter()
        with super().read() as connection:
            self.waits.append(time.perf_counter() - asked)
            yield connection


def _timed(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.store = TimedStore(path)
    ledger.store.waits = []
    return ledger


def _warm_up(ledger: Ledger, start) -> None:
    """Import everything and open the store once, then wait for the other processes to have done so."""
    ledger.append(Hypothesis(about="warm", claim="up", created_at=datetime(2026, 1, 1)))  # the same in every process
    ledger.find(Hypothesis, about="warm")
    ledger.store.waits.clear()
    start.wait()


def _write(path: Path, number: int, seconds: float, start, results) -> None:
    outcome, ledger = Outcome("writer"), _timed(path)
    _warm_up(ledger, start)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            about = f"{number}/{outcome.transactions}"
            facts = [Hypothesis(about=about, claim=f"row {row}") for row in range(ROWS)]
            started = time.perf_counter()
            ledger.append(*facts)
            outcome.whole.append(time.perf_counter() - started)
            outcome.transactions += 1
    except Exception as error:
        outcome.error = repr(error)
    outcome.waits = ledger.store.waits
    results.put(outcome)


def _read(path: Path, seconds: float, start, results) -> None:
    outcome, ledger = Outcome("reader"), _timed(path)
    _warm_up(ledger, start)
    groups = "SELECT about, count(*) AS rows FROM hypotheses WHERE about <> 'warm' GROUP BY about"
    torn = f"SELECT count(*) FROM ({groups}) WHERE rows <> {ROWS}"
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            started = time.perf_counter()
            _, ((count,),) = ledger.sql(torn)
            outcome.whole.append(time.perf_counter() - started)
            outcome.torn += count
            outcome.transactions += 1
    except Exception as error:
        outcome.error = repr(error)
    outcome.waits = ledger.store.waits
    results.put(outcome)


def hammer(path: Path, seconds: float) -> tuple[list[Outcome], int]:
    """Run the processes for `seconds`; returns what each saw and the number of rows that were lost."""
    spawn = multiprocessing.get_context("spawn")
    results, start = spawn.Queue(), spawn.Barrier(WRITERS + READERS)
    processes = [spawn.Process(target=_write, args=(path, n, seconds, start, results)) for n in range(WRITERS)]
    processes += [spawn.Process(target=_read, args=(path, seconds, start, results)) for _ in range(READERS)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=seconds + 120) for _ in processes]
    for process in processes:
        process.join()
    written = ROWS * sum(outcome.transactions for outcome in outcomes if outcome.role == "writer")
    _, ((kept,),) = Ledger(path).sql("SELECT count(DISTINCT id) FROM hypotheses WHERE about <> 'warm'")
    return outcomes, written - kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        outcomes, lost = hammer(Path(folder) / "glossator.duckdb", seconds)
    report = {"seconds": seconds, "lost_rows": lost, "torn": sum(outcome.torn for outcome in outcomes)}
    report["errors"] = [outcome.error for outcome in outcomes if outcome.error]
    for role in ("reader", "writer"):
        mine = [outcome for outcome in outcomes if outcome.role == role]
        for name in ("waits", "whole"):
            times = np.concatenate([getattr(outcome, name) for outcome in mine]) * 1000
            report[f"{role}_{name}_ms"] = {f"p{q}": round(float(np.percentile(times, q)), 1) for q in (50, 95, 100)}
        report[f"{role}_operations"] = sum(outcome.transactions for outcome in mine)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
