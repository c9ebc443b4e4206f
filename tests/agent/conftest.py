"""The command line in this process, on a workspace whose subject is the planted world."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from store.ledger import Ledger
from tests.agent.agent_script import acts
from tests.agent.planted_cli import Running, planted_workspace, start
from tests.stub_llm import Stub
from tests.tools.world import PlantedSubject


@dataclass
class Outcome:
    """What a command left behind: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one sentence on stderr of a command that was refused."""
        assert (self.code, self.out) == (2, ""), self
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0][0].isupper() or not lines[0].split()[0].isalpha()
        assert lines[0].endswith((".", "?", "!"))
        return lines[0]


class Commands:
    """Runs commands in a folder of the test's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.workspace = folder / "glossator-workspace"
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.workspace / "store.duckdb")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.ledger.sql(query)[1]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests stay out; the cache stays, so that nothing is downloaded again."""
    for name in list(os.environ):
        if name.startswith("GLOSSATOR_") and name != "GLOSSATOR_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Commands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path, capsys)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder by name, lock files aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".gate")
    }


@pytest.fixture
def refused(run: Commands) -> Callable[..., str]:
    """Runs a command that is refused, asserts that no file changed, and returns the sentence."""

    def check(*arguments: object) -> str:
        before = files(run.folder)
        sentence = run(*arguments).sentence
        assert files(run.folder) == before
        return sentence

    return check


@pytest.fixture
def background() -> Iterator[Callable[..., Running]]:
    """`start` of planted_cli; what still runs when the test ends is killed."""
    running: list[Running] = []

    def begin(folder: Path, *arguments: object, **options: Any) -> Running:
        running.append(start(folder, *arguments, **options))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.join()


@pytest.fixture(scope="session")
def world_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_workspace(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def agent_stub() -> Iterator[Stub]:
    with Stub(behaviour="words") as stub:
        yield stub


@pytest.fixture
def llm(agent_stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub, named by the environment as the LLM of every role: it explains by tokens and judges by words."""
    agent_stub.reset()
    agent_stub.configure(behaviour="words")
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", agent_stub.base_url)
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "stub")
    monkeypatch.setenv("GLOSSATOR_LLM_PRICES", "[1, 2]")
    monkeypatch.setenv("GLOSSATOR_LLM_RETRIES", "1")
    return agent_stub


@pytest.fixture
def agent(llm: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as the agent's LLM, which calls tools natively."""
    monkeypatch.setenv("GLOSSATOR_LLM_RETRIES", "0")
    llm.configure(behaviour="agent", acts=acts())
    return llm


@pytest.fixture
def world(run: Commands, world_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands in a folder whose workspace holds a harvest of the planted world."""
    shutil.copytree(world_workspace, run.workspace)
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: PlantedSubject())
    return run
