"""The embedded LLM: one llama.cpp server on a free loopback port, shared by all commands that run.

Each client holds a shared lock on `clients.lock` for as long as its process lives, however it ends. The server
(`prompts.local_server`, a process and session of its own) ends when nobody holds that lock any more.
"""

import fcntl
import json
import logging
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prompts.cpu import idle_threads
from prompts.providers import Endpoint
from prompts.weights import MODEL, weights
from store.errors import UserError
from store.fetch import cache_dir

LOOK_S = 0.5
START_LIMIT_S = 120.0

log = logging.getLogger(__name__)
_held: list[Any] = []  # the client lock, open until this process ends


def embedded_endpoint(threads: int | None = None) -> Endpoint:
    """The embedded LLM as an endpoint: fetched if need be, started if need be, free of charge."""
    return _endpoint(ensure_server(threads))


def recorded_endpoint() -> Endpoint:
    """The embedded LLM as an endpoint whose replies are on record: nothing is started, and nothing answers."""
    return _endpoint("http://127.0.0.1:9/v1")


def _endpoint(base_url: str) -> Endpoint:
    return Endpoint(base_url=base_url, model=MODEL, max_tokens=256, timeout_s=600, prices=(0.0, 0.0))


def check_installed() -> None:
    """UserError when the extra that the embedded LLM needs is missing."""
    if find_spec("xllamacpp") is None:
        raise UserError("No LLM is configured, the embedded one is not installed; pip install 'glossator[embedded]'.")


def ensure_server(threads: int | None = None) -> str:
    """The base URL of the shared server, which stays at least until this process ends.

    `threads` counts only when the server has to be started; by default it is chosen from the idle cores.
    UserError when the extra is missing, the download fails or the server does not start.
    """
    check_installed()
    folder = _folder()
    if not _held:
        lock = (folder / "clients.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_SH)
        _held.append(lock)
    with _starting(folder):
        return _running(folder) or _start(folder, weights(), threads or idle_threads())


def serve_in_foreground(announce: Callable[[str], None], threads: int | None = None) -> None:
    """Tells `announce` the base URL, then keeps the server until interrupted. UserError when the server dies."""
    base_url = ensure_server(threads)
    announce(base_url)
    while _running(_folder()) == base_url:
        time.sleep(LOOK_S)
    raise UserError(f"The embedded LLM server ended; its log is {_folder() / 'server.log'}.")


def _folder() -> Path:
    folder = cache_dir() / "llm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """One process at a time looks for the server and starts it."""
    with (folder / "start.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process to start the embedded LLM")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _running(folder: Path) -> str | None:
    """The base URL of the server named in the state file, if it answers."""
    try:
        base_url = str(json.loads((folder / "server.json").read_text())["base_url"])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(base_url.removesuffix("/v1") + "/health", timeout=10):
            return base_url
    except (OSError, ValueError, KeyError):
        return None


def _start(folder: Path, model: Path, threads: int) -> str:
    state, errors = folder / "server.json", folder / "server.log"
    state.unlink(missing_ok=True)
    with errors.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "prompts.local_server", str(folder), str(model), MODEL, str(threads)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if (base_url := _running(folder)) is not None:
            return base_url
        if child.poll() is not None:
            last = (errors.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise UserError(f"The embedded LLM did not start ({last[:200]}); its log is {errors}.")
        time.sleep(0.05)
    child.kill()
    raise UserError(f"The embedded LLM was not ready within {START_LIMIT_S:.0f} s; its log is {errors}.")
