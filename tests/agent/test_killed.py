"""The real command line, stopped by real signals in the middle of its work: the same command goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store.types import Experiment
from tests.agent.conftest import Commands
from tools.workbench.subject import Subject

START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from agent.cli import main; raise SystemExit(main())"
)
ACDC = '{"template": "ioi", "n": 1, "metric": "logit_difference", "tau": 0.3, "candidates": 60, "budget": 60}'
LOCALISE = ("localise", "--template", "capital", "--n", "2")


def stopped(number: int, when: Callable[[], bool], *arguments: str) -> int:
    """The exit code of a glossator process that gets a signal as soon as `when` holds."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", START, *arguments, "--dtype", "float32"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(3000):
            if when() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(number)
        return process.wait(120)
    finally:
        process.kill()


@pytest.fixture
def real(run: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    return run


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(real: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> list[Path]:
        return list(real.workspace.glob("unfinished/*.json"))

    code = stopped(signal.SIGKILL, lambda: bool(states()), "tool", "call", "acdc", ACDC)
    assert code == -signal.SIGKILL
    assert real.ledger.find(Experiment) == []
    (state,) = states()
    kept = json.loads(state.read_text())
    answered = real("tool", "call", "acdc", ACDC, "--json")
    assert answered.code == 0, answered.err
    found = answered.json["output"]
    assert (found["decided"], found["tests"]) == (60, 60)
    assert 0 < kept["decided"] < 60
    assert found["kept"][: len(kept["kept"])] == kept["kept"]
    assert states() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_localising_goes_on(real: Commands, number: int) -> None:
    def rows() -> list[Experiment]:
        return real.ledger.find(Experiment) if (real.workspace / "store.duckdb").exists() else []

    code = stopped(number, lambda: len(rows()) >= 2, *LOCALISE)
    assert code == (130 if number == signal.SIGINT else -number)
    before = rows()
    assert before[0].tool == "contrast_pairs"
    answered = real(*LOCALISE, "--json")
    assert answered.code == 0, answered.err
    ids = [step["id"] for step in answered.json["steps"] if step["id"]]
    assert ids[: len(before)] == [row.id for row in before]  # nothing that is there is run again
    assert [row.id for row in rows()] == ids
