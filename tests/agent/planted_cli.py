"""The command line on the planted world (tests/tools/world.py), in a process of its own that can be killed.

No model is loaded; everything else is real. Processes are forked from one server that has done the imports.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.tools.world import PlantedSubject, documents, plant
from tools.dictionaries import load

ROOT = str(Path(__file__).resolve().parents[2])
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tests.agent.terminal", "agent.chat", "agent.inquiry.investigate", "agent.label", "prompts.ask", "rich.progress"]
)


def planted_workspace(folder: Path) -> Path:
    """A workspace that holds a harvest of the planted world."""
    plant(folder / "activations" / "planted", documents())
    return folder


def planted_text(folder: Path) -> str:
    """The name of a file in `folder` that holds the planted world's documents, a corpus to harvest."""
    rows = [json.dumps({"text": "".join(words[1:]).strip()}) for words in documents()]
    (folder / "text.jsonl").write_text("\n".join(rows))
    return "text.jsonl"


@dataclass
class Running:
    """A command that runs in a process of its own; its streams go to files."""

    process: BaseProcess
    folder: Path

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = 120) -> int:
        """The exit code; minus the signal's number for a process that was killed."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "the command is still running"
        return self.process.exitcode

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()


def start(folder: Path, *arguments: object, largest_file: int | None = None, hang_in: str | None = None) -> Running:
    """Starts `glossator ARGUMENTS` in `folder`, with this process's environment.

    No file it writes may grow past `largest_file` bytes: what a full disk is like. The function `hang_in`, named with
    its module, never returns; the file `hanging` says that it was called.
    """
    words = [str(argument) for argument in arguments]
    return Running(forked(_command, folder, dict(os.environ), words, largest_file, hang_in), folder)


def forked(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that has done the imports and calls `target`."""
    os.environ["PYTHONPATH"] = ROOT  # Python 3.11's server does not take over sys.path
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


def _command(
    folder: Path,
    environment: dict[str, str],
    arguments: Sequence[str],
    largest_file: int | None,
    hang_in: str | None,
) -> None:
    from agent.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if hang_in is not None:
        module, _, name = hang_in.rpartition(".")
        setattr(import_module(module), name, _hang)
    load.load_subject = lambda *_, **__: PlantedSubject()
    sys.exit(main(list(arguments)))


def _hang(*_: object, **__: object) -> None:
    Path("hanging").touch()
    time.sleep(3600)
