"""`glossator audit`: what, if anything, a model hides, without a hint."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, put
from agent.screen.show import clean
from agent.settings import load

if TYPE_CHECKING:
    from agent.audit.audit import Audited

LIMITED = 3  # exit code: a limit ended it
NARROW = 70  # cells: where a terminal has fewer, a finding is a record and not a row


def audit(
    budget: Annotated[
        int, typer.Option(min=3000, help="Tokens that each model reads and writes, about.", rich_help_panel=o.LIMITS)
    ] = 12_000,
    no_llm: Annotated[bool, typer.Option("--no-llm", help="A fixed portfolio; no LLM is asked.")] = False,
    model: o.Model = None,
    adapter: o.Adapter = None,
    base: o.Base = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Find out what a model hides, without a hint: looks, suspicions, predictions tested on fresh prompts, findings.

    Exit code 0 when everything suspected was tested, found or not, 3 when the budget ended it. Interrupted, the same
    command goes on where it was.
    """
    from agent.audit.audit import audit as run
    from agent.session import open_session

    with open_session(load(locals())) as session:
        found = run(session, budget)
    emit(document(found), json, lambda console: render(console, found))
    if found.reason != "concluded":
        raise typer.Exit(LIMITED)


def document(found: "Audited") -> dict[str, Any]:
    """Findings and what was ruled out, for JSON; the rows hold the rest."""
    return {
        "thread": found.thread,
        "subject": found.subject,
        "base": found.compared,
        "reason": found.reason,
        "findings": [
            {
                "rank": rank,
                "kind": finding.kind,
                "family": finding.family,
                "claim": finding.claim,
                "measured": finding.measured.what,
                "value": finding.measured.value,
                "interval": [finding.measured.low, finding.measured.high],
                "chance": finding.measured.chance,
                "confidence": finding.confidence,
                "evidence": list(finding.evidence),
            }
            for rank, finding in enumerate(found.findings, 1)
        ],
        "ruled_out": [asdict(each) for each in found.ruled_out],
        "undecided": [asdict(each) for each in found.undecided],
        "suspicions": [
            {"claim": each.hypothesis.claim, "family": each.lead.family, "standing": each.standing}
            for each in found.tested
        ],
        "tokens": found.tokens,
        "seconds": found.seconds,
    }


def render(console: Console, found: "Audited") -> None:
    """Findings, the most telling first; what was ruled out; where the rows are."""
    console.print(Text("findings", "bold"))
    if not found.findings:
        put(console, Text("  none: nothing that was suspected passed its test"))
    elif console.width < NARROW:
        _records(console, found)
    else:
        console.print(Padding(_table(found), (0, 0, 0, 2)))
    for heading, told in (("ruled out", found.ruled_out), ("not decided", found.undecided)):
        if told:
            console.print(Text(f"\n{heading}", "bold"))
        for each in told:
            _line(console, clean(each.sentence), f"  {each.evidence[:8]}" if each.evidence else "")
    _line(console, "what only a trigger, or a question that was not asked, brings out")
    if not found.compared:
        put(console, Text("\nThere is no base model to compare with: name one with --base.", "yellow"))
    if found.reason != "concluded":
        put(console, Text(f"\nNot concluded: the budget of {found.budget:,} tokens was spent.", "yellow"))
    looked = ", ".join(f"{step.tool} {step.experiment.id[:8]}" for step in found.looked if step.experiment)
    put(console, Text(f"\nthread   {found.thread} (glossator export {found.thread})\nlooks    {looked}", "dim"))


def _line(console: Console, sentence: str, row: str = "") -> None:
    console.print(Padding(Text.assemble(sentence, (row, "dim")), (0, 0, 0, 2), expand=False))


def _table(found: "Audited") -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("finding", ratio=1)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("measured", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    table.add_column("evidence", no_wrap=True)
    for finding in found.findings:
        numbers = finding.measured
        table.add_row(
            Text(clean(finding.claim)),
            f"{finding.confidence:.3f}",
            Text(f"{numbers.value:.2f} [{numbers.low:.2f}, {numbers.high:.2f}]"),
            f"{numbers.chance:.2f}",
            Text(finding.evidence[0][:8], "dim"),
        )
    return table


def _records(console: Console, found: "Audited") -> None:
    from agent.audit.findings import told

    for rank, finding in enumerate(found.findings, 1):
        lines = f"{rank}. {clean(finding.claim)}\n{told(finding.measured)}\nconfidence {finding.confidence:.3f}"
        body = Text.assemble(lines, (f"\nevidence {finding.evidence[0][:8]}", "dim"))
        console.print(Padding(body, (0, 0, 1, 2)))
