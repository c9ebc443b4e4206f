"""Files that appear whole or not at all, and what to say when the disk is full."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import UserError

DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")


@contextmanager
def full_disk_explained(place: Path) -> Iterator[None]:
    """Turn the failure of a write for want of space into one sentence; let every other failure through."""
    try:
        yield
    except Exception as error:  # every library has its own type for it
        if not DISK_FULL.search(str(error)):
            raise
        raise UserError(
            f"the disk that holds {place} is full, so nothing of this step was kept; "
            "free some space and run the same command again"
        ) from error


def expanded(path: str | Path) -> Path:
    """`path` with `~` and `~user` spelled out. Raises UserError for a user who has no home here."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path} is in the home of a user whom this machine does not know; name another path") from None


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, unless they are there. Raises UserError when that cannot be."""
    try:
        with full_disk_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}); name another one") from None


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path to write to; when the body ends it becomes `path`, durably and in one step, and when it raises it goes."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.unlink(missing_ok=True)  # left by a process that was killed
    try:
        with full_disk_explained(path):
            yield unfinished
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
