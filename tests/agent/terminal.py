"""A command on a real pseudo-terminal, whose screen can be read."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

from tests.stub_llm import ROOT

PATIENCE_S = 60.0


class Terminal:
    """A screen of so many columns and rows on which a process runs. `log` is every byte it wrote."""

    def __init__(self, pid: int, fd: int, columns: int, rows: int) -> None:
        self.pid, self.fd = pid, fd
        self.screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._stream = pyte.ByteStream(self.screen)
        self.log = b""
        self.code: int | None = None

    @property
    def text(self) -> str:
        """Everything above and on the screen, a line each, blanks at line ends left out."""
        width = self.screen.columns
        above = ["".join(line[x].data for x in range(width)).rstrip() for line in self.screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.screen.display)])

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def see(self, words: str, since: str = "") -> None:
        """Waits until the words stand on the screen, behind the last `since`; AssertionError when they never come."""
        end = time.monotonic() + PATIENCE_S
        while words not in self.text.rpartition(since)[2] if since else words not in self.text:
            assert self._read(end), f"{words!r} never came:\n{self.text}"

    def rest(self) -> None:
        """Reads until nothing comes for a moment."""
        while self._read(time.monotonic() + 0.5):
            pass

    def wait(self) -> int:
        """The exit code of the process; minus the signal's number when one killed it."""
        while self.code is None and self._read(time.monotonic() + PATIENCE_S):
            pass
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def kill(self) -> None:
        """Ends the process as a crash would."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    def _read(self, end: float) -> bool:
        """Feeds what comes before `end` to the screen; False when nothing did, or nothing ever will."""
        ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
        try:
            data = os.read(self.fd, 1 << 16) if ready else b""
        except OSError:  # the other side is closed
            data = b""
        self.log += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def terminal(
    folder: Path, *arguments: str, columns: int = 80, rows: int = 40, **environment: str
) -> Iterator[Terminal]:
    """Runs the planted command line (tests/agent/planted_main.py) in `folder`; it is killed if it outlives the body."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        more = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        os.execve(sys.executable, [sys.executable, "-m", "tests.agent.planted_main", *arguments], kept | more)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    held = Terminal(pid, fd, columns, rows)
    try:
        yield held
    finally:
        held.kill()
        os.close(fd)
