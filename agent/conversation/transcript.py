"""An investigation's events as a person reads them: what is printed for good, and what still changes below it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console, RenderableType
from rich.text import Text

from agent.inquiry.events import (
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
from agent.screen.panels import (
    ID,
    Call,
    approval_panel,
    call_line,
    call_summary,
    clock,
    conclusion,
    one_line,
    thousands,
)
from agent.screen.show import clean

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINS_PER_S = 8
NARROW = 60  # cells: below this the status line is shortened
VERDICTS = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}


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
    _told: float = field(default_factory=monotonic)  # when the last count came
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
                    (name, "bold magenta"), f" {one_line(event.claim)}", (f"{kind}  {event.id[:ID]}", "dim")
                )
            case PredictionRegistered():
                name = self._hypotheses.get(event.hypothesis, event.hypothesis[:ID])
                yield Text.assemble(
                    (f"{name} predicts", "magenta"), f" {one_line(event.sentence)}", (f"  {event.id[:ID]}", "dim")
                )
            case ToolBegan():
                self._running = event
            case ToolEnded():
                yield self._ended(event)
            case Judged():
                yield Text.assemble(VERDICTS[event.held], f" {one_line(event.sentence)}")
            case ApprovalNeeded():
                self.waiting = event
                yield approval_panel(event)
            case Spent():
                self.spent, self._told = event, monotonic()
            case Concluded():
                self.concluded = True
                yield conclusion(event)

    def begin(self) -> None:
        """From here on it is another question."""
        self.spent, self._step, self._hypotheses = None, "", {}

    def tick(self) -> None:
        """The clocks run from now on."""
        self._since = self._told = monotonic()

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
        lines.append(Text.assemble(spinner, (f"{seconds:.0f} s  ", "dim"), what))
        for line in lines:
            line.truncate(self.console.width, overflow="ellipsis")
            yield line

    def status(self, running: bool = False) -> Text:
        """Round, tools, tokens, dollars and time, as far as they are known; while it runs, the time goes on."""
        spent = self.spent or Spent(round=1, tool_calls=0, tokens=0, usd=0.0, seconds=0.0)
        usd = "$?" if spent.usd is None else f"${spent.usd:.4f}"
        if self.console.width < NARROW:
            parts = [f"round {spent.round}", f"{thousands(spent.tokens)} tok"]
        else:
            done = [f"{spent.tool_calls:,} tool calls", f"{spent.tokens:,} tokens"]
            parts = [self._step or "begun", f"round {spent.round}", *done]
        parts += [usd, clock(spent.seconds + (monotonic() - self._told if running else 0.0))]
        text = Text(" · ".join(parts), "dim")
        text.truncate(self.console.width, overflow="ellipsis")
        return text

    def _words_of(self, delta: str) -> Iterator[Text]:
        """Every line that is full, as the terminal's width or a line break fills it."""
        *ended, open_ = (self._words + delta.replace("\r\n", "\n")).split("\n")
        yield from (Text(clean(each)) for each in ended)
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
        return call_summary(self.calls[-1])
