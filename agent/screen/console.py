"""The two streams: the result on stdout, all that happens meanwhile on stderr."""

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from agent.screen.show import clean

PLAIN_EVERY_S = 30.0  # between progress lines where there is no terminal to redraw
FLAT_LIST = re.compile(r"\[\n[^\[\]{}]*\n *\]")  # of a document with line breaks: a list of plain values
STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # JSON leaves these bare
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}

_live: list[Console] = []  # the console that is drawing a bar, so that messages go above it


class Advance(Protocol):
    """Reports progress: done and total in the meter's unit, and a few words."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def say(message: str) -> None:
    """One line on stderr, above the progress bar if there is one."""
    console = _live[-1] if _live else Console(stderr=True)
    console.print(clean(message), markup=False, highlight=False, soft_wrap=True)


def emit(document: Any, as_json: bool, render: Callable[[Console], None]) -> None:
    """The result of a command on stdout: one JSON document, or what `render` prints for people."""
    if as_json:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
        text = FLAT_LIST.sub(lambda found: " ".join(line.strip() for line in found[0].split("\n")), text)
        sys.stdout.write(STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
        sys.stdout.flush()
    else:
        render(Console(highlight=False))


def put(console: Console, text: Text) -> None:
    """Prints a paragraph: broken between words on a terminal, one line elsewhere."""
    console.print(text, soft_wrap=not console.is_terminal)


@contextmanager
def meter(title: str) -> Iterator[Advance]:
    """A progress bar with the time left on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_meter(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, note="")
        _live.append(console)
        try:
            yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)
        finally:
            _live.remove(console)


@contextmanager
def elapsed(title: str) -> Iterator[None]:
    """What takes its time and reports no progress: the seconds on a terminal, a line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(f"{title}.")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(clean(title), total=None)
        _live.append(console)
        try:
            yield
        finally:
            _live.remove(console)


def rated(advance: Advance) -> Advance:
    """Progress with its rate, of each part of the work anew."""
    began, first, last, part = time.monotonic(), 0, 0, ""

    def told(done: int, total: int, note: str = "") -> None:
        nonlocal began, first, last, part
        now = time.monotonic()
        if done < last or note != part:
            began, first, part = now, done, note
        last = done
        rate = f"{(done - first) / (now - began):,.1f} a second" if done > first and now > began else ""
        advance(done, total, ", ".join(filter(None, (note, rate))))

    return told


@contextmanager
def late_meter(title: str) -> Iterator[Advance]:
    """A meter that is not to be seen before the first report: for what may take no time at all."""
    shown: list[Advance] = []
    with ExitStack() as stack:

        def advance(done: int, total: int, note: str = "") -> None:
            if not shown:
                shown.append(stack.enter_context(meter(title)))
            shown[0](done, total, note)

        yield advance


def _plain_meter(title: str) -> Advance:
    said: float | None = None
    first = started = 0.0  # what an earlier try had done is not this one's speed
    last = 0

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal said, first, started, last
        now = time.monotonic()
        if said is None or done < last:  # it begins, or the next part of it does
            first, started = done, now
        last = done
        if said is not None and now - said < PLAIN_EVERY_S:
            return
        said = now
        parts = [f"{title}: {done:,} of {total:,}"]
        if done > first:
            parts.append(f"{timedelta(seconds=round((total - done) * (now - started) / (done - first)))} left")
        say(", ".join([*parts, note] if note else parts))

    return advance


class _Says(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def quiet_libraries() -> None:
    """Keeps other people's bars, banners and warnings off both streams; our own log still speaks on stderr."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    for room in ("agent", "tools", "prompts", "store"):
        log = logging.getLogger(room)
        log.handlers, log.propagate = [_Says()], False
        log.setLevel(logging.WARNING)
