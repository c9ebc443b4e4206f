"""What is shown of an investigation at once: a tool call opened, a run to be approved, a conclusion."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from agent.inquiry.brief import brief
from agent.inquiry.events import ApprovalNeeded, Concluded, ToolBegan, ToolEnded
from agent.screen.draw import drawn
from agent.screen.show import clean, coloured, plain
from store.types import Experiment

ID = 8  # digits of an id that are shown


@dataclass(frozen=True)
class Call:
    """A tool call that ended."""

    began: ToolBegan
    ended: ToolEnded


def call_of(experiment: Experiment, why: str = "") -> Call:
    """An experiment of the ledger as the call it was."""
    return Call(
        ToolBegan(tool=experiment.tool, why=why, input=experiment.input),
        ToolEnded(
            tool=experiment.tool,
            experiment=experiment.id,
            ok=experiment.error is None,
            verdict=brief(experiment).verdict,
            seconds=experiment.seconds,
            output=experiment.output,
        ),
    )


def call_line(began: ToolBegan) -> Text:
    """A tool and the plain part of its input."""
    return Text.assemble((clean(began.tool), "bold"), (f" {_brief_input(began.input)}".rstrip(), "cyan"))


def call_summary(call: Call) -> RenderableType:
    """A tool call as two lines: whether it went well, what, seconds and id; and below what it found."""
    mark = ("✓ ", "green") if call.ended.ok else ("✗ ", "red")
    facts = f"  {took(call.ended.seconds)}  {call.ended.experiment[:ID]}"
    head = Text.assemble(mark, call_line(call.began), (facts, "dim"))
    return Group(head, Padding(Text(one_line(call.ended.verdict)), (0, 0, 0, 2)))


def call_panel(call: Call, console: Console) -> Panel:
    """All of a tool call: what, why, verdict, seconds, id, and its output drawn."""
    began, ended = call.began, call.ended
    parts: list[RenderableType] = [Text.assemble(("what   ", "dim"), one_line(_whole_input(began.input)))]
    if began.why:
        parts.append(Text.assemble(("why    ", "dim"), one_line(began.why)))
    parts.append(Text.assemble(("found  ", "dim"), (one_line(ended.verdict), "bold" if ended.ok else "bold red")))
    for path in (ended.output or {}).get("pictures") or ():
        if str(path).endswith(".png"):
            parts.append(Text.assemble(("picture ", "dim"), one_line(str(path))))
    figures = list(drawn(ended.output or {}, console.width - 4, coloured(console)))
    return Panel(
        Group(*parts, *([""] if figures else []), *figures),
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
            Text(one_line(event.estimate)),
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
        lines.append(Text(f"Not concluded: {one_line(event.reason)}.", "yellow"))
    for claim in event.claims:
        said = Text.assemble("• ", one_line(claim.sentence))
        if claim.conjecture:
            said.append("  conjecture", "italic yellow")
        if claim.seen:
            said.append("  seen", "dim")
        for id in claim.evidence:
            said.append(f" [{one_line(id)[:ID]}]", "cyan")
        lines.append(said)
    lines.append(Text("/evidence ID opens what a claim rests on", "dim"))
    return Group("", *lines)


def took(seconds: float) -> str:
    """Seconds as "0.41 s", "12 s" or "3:20"."""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 60 else clock(seconds)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, "3:20"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def one_line(text: str) -> str:
    """Untrusted text, harmless and on one line."""
    return plain(text).plain


def _brief_input(input: Mapping[str, Any]) -> str:
    shown = [(name, value) for name, value in input.items() if isinstance(value, int | float | str)]
    shown.sort(key=lambda item: item[0] != "latent")
    return ", ".join(f"{name} {one_line(str(value))[:40]}" for name, value in shown[:3])


def _whole_input(input: Mapping[str, Any]) -> str:
    def told(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return ", ".join(f"{name} {told(value)}" for name, value in input.items()) or "nothing"


def thousands(count: int) -> str:
    """A count in a few characters: "950", "23.5k"."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"
