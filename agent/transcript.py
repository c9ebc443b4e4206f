"""An investigation's events as a person reads them: what is printed for good, and what still changes below it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from agent.draw import figures
from agent.events import (
    ApprovalNeeded,
    Concluded,
    Event,
    HypothesisStated,
    Judged,
    PredictionRegistered,
    Spent,
    StepBegan,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from agent.show import clean, coloured, plain

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINS_PER_S = 8
ID = 8  # digits of an id that are shown
NARROW = 60  # cells: below this the status line is shortened
VERDICTS = {True: ("✓ held", "green"), False: ("✗ failed", "red"), None: ("? undecided", "yellow")}


@dataclass(frozen=True)
class Call:
    """A tool call that ended."""

    began: ToolBegan
    ended: ToolEnded


@dataclass
class Transcript:
    """What has been shown of a conversation. `take` an event, print what it gives; draw `live` below."""

    console: Console
    calls: list[Call] = field(default_factory=list)
    spent: Spent | None = None
    waiting: ApprovalNeeded | None = None  # for a person's answer
    concluded: bool = False
    _step: str = ""
    _words: str = ""  # of the LLM, the line that is not full yet
    _running: ToolBegan | None = None
    _since: float = field(default_factory=monotonic)  # the last event but words and counts
    _hypotheses: dict[str, str] = field(default_factory=dict)  # id -> H1, H2, ...

    def take(self, event: Event) -> Iterator[RenderableType]:
        """What to print for good."""
        if not isinstance(event, TextDelta | Spent):
            self._since = monotonic()
            yield from self.flush()
        match event:
            case StepBegan():
                self._step, self.concluded = event.step, False
                yield Text(f"\n{event.step}", "bold blue").append(f"  round {event.round}", "dim not bold")
            case TextDelta():
                yield from self._words_of(event.text)
            case HypothesisStated():
                name = self._hypotheses.setdefault(event.id, f"H{len(self._hypotheses) + 1}")
                kind = "  dull account" if event.dull else ""
                yield Text.assemble(
                    (name, "bold magenta"), f" {_line(event.claim)}", (f"{kind}  {event.id[:ID]}", "dim")
                )
            case PredictionRegistered():
                name = self._hypotheses.get(event.hypothesis, event.hypothesis[:ID])
                yield Text.assemble(
                    (f"{name} predicts", "magenta"), f" {_line(event.sentence)}", (f"  {event.id[:ID]}", "dim")
                )
            case ToolBegan():
                self._running = event
            case ToolEnded():
                yield self._ended(event)
            case Judged():
                yield Text.assemble(VERDICTS[event.held], f"  {_line(event.sentence)}")
            case ApprovalNeeded():
                self.waiting = event
                yield approval_panel(event)
            case Spent():
                self.spent = event
            case Concluded():
                self.concluded = True
                yield conclusion(event)

    def name(self, hypotheses: Iterable[str]) -> None:
        """From now on the hypotheses of these ids, and none before them, are H1, H2, ..."""
        self._hypotheses = {id: f"H{number}" for number, id in enumerate(hypotheses, 1)}

    def flush(self) -> Iterator[RenderableType]:
        """The words that no line break ended."""
        if self._words.strip():
            yield Text(self._words.rstrip())
        self._words = ""

    def stopped(self) -> Iterator[RenderableType]:
        """What is left to print of a run that ended before its time."""
        yield from self.flush()
        if self._running is not None:
            yield Text(f"✗ {self._running.tool} was stopped", "yellow")
        self._running = None

    def live(self) -> Iterator[Text]:
        """The words as they stream, and the tool or step that runs: one line each, never wider than the terminal."""
        seconds = monotonic() - self._since
        spinner = (f"{SPINNER[int(seconds * SPINS_PER_S) % len(SPINNER)]} ", "cyan")
        what = call_line(self._running) if self._running else Text(self._step or "begin", "bold")
        lines = [Text(self._words)] if self._words else []
        lines.append(Text.assemble(spinner, what, (f"  {seconds:.0f} s", "dim")))
        for line in lines:
            line.truncate(self.console.width, overflow="ellipsis")
            yield line

    def status(self) -> Text:
        """Round, tools, tokens, dollars and time, as far as they are known."""
        spent = self.spent
        if spent is None:
            return Text()
        usd = "$?" if spent.usd is None else f"${spent.usd:.4f}"
        narrow = self.console.width < NARROW
        parts = [f"round {spent.round}", usd, clock(spent.seconds)]
        parts[1:1] = [f"{_thousands(spent.tokens)} tok"] if narrow else [
            f"{spent.tool_calls:,} tool calls", f"{spent.tokens:,} tokens",
        ]  # fmt: skip
        if not narrow and self._step:
            parts.insert(0, self._step)
        text = Text(" · ".join(parts), "dim")
        text.truncate(self.console.width, overflow="ellipsis")
        return text

    def _words_of(self, delta: str) -> Iterator[Text]:
        """Every line that is full, as the terminal's width or a line break fills it."""
        *ended, open_ = (self._words + delta.replace("\r\n", "\n")).split("\n")
        for line in ended:
            yield Text(clean(line))
        wrapped = Text(clean(open_)).wrap(self.console, self.console.width)
        for line in wrapped[:-1]:
            line.rstrip()
            yield line
        self._words = wrapped[-1].plain if wrapped else ""
        if open_.endswith(" ") and not self._words.endswith(" "):
            self._words += " "  # the next word is another one

    def _ended(self, event: ToolEnded) -> RenderableType:
        began = self._running or ToolBegan(tool=event.tool, why="", input={})
        self._running = None
        self.calls.append(Call(began, event))
        mark = ("✓ ", "green") if event.ok else ("✗ ", "red")
        facts = f"  {took(event.seconds)}  {event.experiment[:ID]}"
        return Text.assemble(mark, call_line(began), (facts, "dim"), f"\n  {_line(event.verdict)}")


def call_line(began: ToolBegan) -> Text:
    """A tool and the plain part of its input."""
    return Text.assemble((clean(began.tool), "bold"), (f" {_brief_input(began.input)}".rstrip(), "cyan"))


def call_panel(call: Call, console: Console) -> Panel:
    """All of a tool call: what, why, verdict, seconds, id, and its output drawn."""
    began, ended = call.began, call.ended
    parts: list[RenderableType] = [Text.assemble(("what   ", "dim"), _line(_whole_input(began.input)))]
    if began.why:
        parts.append(Text.assemble(("why    ", "dim"), _line(began.why)))
    parts.append(Text.assemble(("found  ", "dim"), (_line(ended.verdict), "bold" if ended.ok else "bold red")))
    drawn = list(figures(ended.output or {}, console.width - 4, coloured(console)))
    return Panel(
        Group(*parts, *([""] if drawn else []), *drawn),
        title=Text(clean(began.tool), "bold"),
        title_align="left",
        subtitle=Text(f"{took(ended.seconds)} · {ended.experiment[:ID]}", "dim"),
        subtitle_align="right",
        border_style="green" if ended.ok else "red",
    )


def approval_panel(event: ApprovalNeeded) -> Panel:
    """What wants to run, at what cost, and how to answer."""
    return Panel(
        Group(
            call_line(ToolBegan(tool=event.tool, why="", input=event.input)),
            Text(_line(event.estimate)),
            Text("/approve runs it, /approve no goes on without it", "dim"),
        ),
        title="May this run?",
        title_align="left",
        border_style="yellow",
    )


def conclusion(event: Concluded) -> RenderableType:
    """One claim a line with its evidence; sentences without any are marked."""
    lines = [Text("Conclusion", "bold green")]
    if event.reason != "concluded":
        lines.append(Text(f"Ended by a limit: {_line(event.reason.replace('_', ' '))}.", "yellow"))
    for claim in event.claims:
        line = Text.assemble("• ", _line(claim.sentence))
        if claim.conjecture:
            line.append("  conjecture", "italic yellow")
        for id in claim.evidence:
            line.append(f" [{_line(id)[:ID]}]", "cyan")
        lines.append(line)
    lines.append(Text("/evidence ID opens what a claim rests on", "dim"))
    return Group("", *lines)


def took(seconds: float) -> str:
    """Seconds as "0.41 s", "12 s" or "3:20"."""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 60 else clock(seconds)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, "3:20"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _line(text: str) -> str:
    return plain(text).plain


def _brief_input(input: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in input.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{name} {_line(str(value))[:40]}" for name, value in list(shown.items())[:3])


def _whole_input(input: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in input.items()) or "nothing"


def _thousands(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"
