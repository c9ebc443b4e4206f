"""A command on a real pseudo-terminal, whose screen can be read."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyte

from tests.agent.planted_cli import ROOT, forked
from tests.tools.world import PlantedSubject
from tools.dictionaries import load

PATIENCE_S = 60.0


class Terminal:
    """A screen of so many columns and rows on which a process runs. `log` is every byte it wrote."""

    def __init__(self, process: BaseProcess, fd: int, columns: int, rows: int) -> None:
        self.process, self.fd = process, fd
        self.screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._stream = pyte.ByteStream(self.screen)
        self.log = b""

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
        """The exit code of the process."""
        end = time.monotonic() + PATIENCE_S
        while self.process.is_alive() and time.monotonic() < end:
            self._read(time.monotonic() + 0.1)
        self._read(time.monotonic())
        assert self.process.exitcode is not None, "the command is still running"
        return self.process.exitcode

    def kill(self) -> None:
        """Ends the process as a crash would."""
        self.process.kill()
        self.process.join()

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
def terminal(folder: Path, *arguments: str, columns: int = 80, rows: int = 40) -> Iterator[Terminal]:
    """Runs `glossator ARGUMENTS` on the planted world in `folder`, with this process's environment."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": ROOT, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = forked(_command, folder, environment, os.ttyname(there), arguments)
    held = Terminal(process, here, columns, rows)
    try:
        yield held
    finally:
        held.kill()
        os.close(here)
        os.close(there)


def _command(folder: Path, environment: dict[str, str], tty: str, arguments: Sequence[str]) -> None:
    from agent.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.setsid()
    opened = os.open(tty, os.O_RDWR)  # the first one opened in a session is its terminal
    for stream in (0, 1, 2):
        os.dup2(opened, stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # open as long as the process is
    load.load_subject = lambda *_, **__: PlantedSubject()
    sys.exit(main(list(arguments)))
