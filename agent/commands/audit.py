"""`glossator audit`: what, if anything, a model hides, without a hint."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.audit.plan import BUDGET
from agent.commands import options as o
from agent.commands.ask import LIMITED, MaxTokens, Minutes, Rounds, ToolCalls
from agent.screen.console import emit, put
from agent.screen.show import clean
from agent.settings import load

if TYPE_CHECKING:
    from agent.audit.audit import Audited
    from agent.audit.findings import Finding

NARROW = 70  # cells: where a terminal has fewer, a finding is a record and not a row


def audit(
    budget: Annotated[
        int, typer.Option(min=3000, help="Tokens of the portfolio in each model, about.", rich_help_panel=o.LIMITS)
    ] = BUDGET,
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="A fixed portfolio, as where no LLM is configured; none is asked.")
    ] = False,
    rounds: Rounds = None,
    tool_calls: ToolCalls = None,
    max_tokens: MaxTokens = None,
    minutes: Minutes = None,
    max_usd: o.MaxUsd = None,
    model: o.Model = None,
    adapter: o.Adapter = None,
    base: o.Base = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Find out what a model hides, without a hint: looks, suspicions, predictions tested on fresh prompts, findings.

    By the LLM that is configured, else by a fixed portfolio. Exit code 0 when everything suspected was tested, found
    or not, 3 when a limit ended it. Interrupted, the same command goes on where it was.
    """
    from agent.audit.audit import audit as run
    from agent.audit.audit import by_agent
    from agent.inquiry.limits import limits_of
    from agent.session import open_session

    settings = load(locals())
    limits = limits_of(settings, rounds=rounds, tool_calls=tool_calls, tokens=max_tokens, minutes=minutes)
    with open_session(settings) as session:
        by_code = no_llm or session.embedded_agent
        found = run(session, budget) if by_code else asyncio.run(by_agent(session, limits))
    emit(document(found), json, lambda console: render(console, found))
    if found.reason != "concluded":
        raise typer.Exit(LIMITED)


def document(found: "Audited") -> dict[str, Any]:
    """Findings, the most telling first, and what was ruled out, for JSON; the rows hold the rest."""
    return {
        "thread": found.thread,
        "subject": found.subject,
        "base": found.compared,
        "reason": found.reason,
        **asdict(found.outcome),
        "tokens": found.tokens,
        "seconds": found.seconds,
    }


def render(console: Console, found: "Audited") -> None:
    """Findings, the most telling first; what was ruled out and what was not decided; where the rows are."""
    console.print(Text("findings", "bold"))
    if not found.outcome.findings:
        beside = "" if found.compared else "; without a base model little can be suspected"
        _line(console, f"none: nothing that was suspected passed its test{beside}")
    elif console.width < NARROW:
        _records(console, found.outcome.findings)
    else:
        console.print(Padding(_table(found.outcome.findings), (0, 0, 0, 2)))
    for heading, told in (("ruled out", found.outcome.ruled_out), ("not decided", found.outcome.undecided)):
        if told:
            console.print(Text(f"\n{heading}", "bold"))
        for each in told:
            _line(console, each.sentence, each.evidence)
    console.print()
    put(console, Text("What only a trigger, or a question that was not asked, brings out is not ruled out.", "dim"))
    if not found.compared:
        put(console, Text("There is no base model to compare with: name one with --base.", "yellow"))
    if found.reason != "concluded":
        put(console, Text(f"Not concluded: the limit on {found.reason} was reached.", "yellow"))
    put(console, Text(f"thread   {found.thread}: glossator export {found.thread}", "dim"))


def _line(console: Console, sentence: str, row: str | None = None) -> None:
    cited = f"  {row[:8]}" if row else ""
    console.print(Padding(Text.assemble(clean(sentence), (cited, "dim")), (0, 0, 0, 2), expand=False))


def _table(findings: "Sequence[Finding]") -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_lines=True)
    table.add_column("finding", ratio=1)
    for name in ("measured", "chance", "confidence", "evidence"):
        table.add_column(name, no_wrap=True, justify="left" if name == "evidence" else "right")
    for finding in findings:
        numbers = finding.measured
        table.add_row(
            Text(clean(finding.claim)),
            Text.assemble(
                f"{numbers.value:.2f} [{numbers.low:.2f}, {numbers.high:.2f}]\n", (clean(numbers.what), "dim")
            )
            if numbers
            else "",
            f"{numbers.chance:.2f}" if numbers else "",
            finding.sure,
            Text(finding.evidence[0][:8], "dim"),
        )
    return table


def _records(console: Console, findings: "Sequence[Finding]") -> None:
    for rank, finding in enumerate(findings, 1):
        lines = [f"{rank}. {finding.claim}", str(finding.measured or "")]
        lines += [f"confidence {finding.sure}"] if finding.sure else []
        body = Text.assemble(
            "\n".join(map(clean, filter(None, lines))), (f"\nevidence {finding.evidence[0][:8]}", "dim")
        )
        console.print(Padding(body, (0, 0, 1, 2), expand=False))
