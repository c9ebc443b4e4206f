"""Reviewing: the scoreboard, the card of one label, and a person's verdicts as new rows."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.labels import Label
from agent.report import score_cell
from agent.show import clean, coloured, highlight, plain
from store.errors import UserError
from store.ledger import Ledger
from store.types import Explanation, Review, Score, Verdict

BY_PERSON = "person"  # the method of an explanation that a reviewer wrote
CARD_EXAMPLES = 6
MARKS = {"accept": ("✓ accepted", "green"), "reject": ("✗ rejected", "red"), "rewrite": ("✎ rewritten", "blue")}


def decide(ledger: Ledger, id: str, verdict: Verdict, reviewer: str, note: str = "", text: str | None = None) -> Review:
    """Appends a verdict on the explanation whose id starts with `id`; a rewrite appends the better `text` too."""
    explanation = ledger.resolve(id)
    if not isinstance(explanation, Explanation):
        raise UserError(f"{id} is no explanation; glossator review --json lists them as explanation_id.")
    if not reviewer.strip():
        raise UserError("A verdict needs the reviewer's name: give --reviewer NAME.")
    if verdict is not Verdict.REWRITE:
        review = Review(explanation=explanation.id, verdict=verdict, reviewer=reviewer, note=note)
        ledger.append(review)
        return review
    if not text or not clean(text).strip():
        raise UserError("A rewrite needs the better explanation: give its text.")
    better = Explanation(
        latent=explanation.latent,
        text=clean(text).strip(),
        method=BY_PERSON,
        explainer=reviewer,
        experiment=None,
        evidence=explanation.evidence,
    )
    review = Review(explanation=explanation.id, verdict=verdict, reviewer=reviewer, note=note, rewrite=better.id)
    ledger.append(better, review)
    return review


def scoreboard(labels: Sequence[Label], console: Console, first: int = 1) -> Table:
    """One line per explanation, numbered from `first`."""
    scorers = sorted({score.scorer for label in labels for score in label.scores})
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("latent", justify="right", no_wrap=True)
    table.add_column("explanation", ratio=1)
    for scorer in scorers:
        table.add_column(scorer.removeprefix("score_"), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    wide = console.width >= 100
    for number, label in enumerate(labels, first):
        by = {score.scorer: score for score in label.scores}
        text = Text.assemble(plain(label.text), (f"  {clean(label.method)}", "dim") if wide else "")
        table.add_row(str(number), str(label.index), text,
                      *(_short_score(by.get(scorer), wide) for scorer in scorers), mark(label.verdict))
    return table


def mark(verdict: str | None) -> Text:
    """A verdict as it is shown; nothing for none."""
    return Text(*MARKS[verdict]) if verdict else Text("")


def card(label: Label, explanation: Explanation, console: Console) -> RenderableType:
    """All there is to judge one explanation by: its scores and the examples its author was shown."""
    author = f"{clean(label.method)} by {clean(label.explainer)}"
    head = Text.assemble((plain(label.text).plain, "bold"), "\n", (author, "dim"))
    scores = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for score in label.scores:
        scores.add_column(score.scorer.removeprefix("score_"), justify="right")
    scores.add_row(*(score_cell(score) for score in label.scores))
    examples = [
        highlight(e.tokens, e.activations, colour=coloured(console), cells=2 * console.width - 24)
        for e in sorted(explanation.evidence, key=lambda e: -e.peak)[:CARD_EXAMPLES]
    ]
    parts: list[RenderableType] = [head]
    if label.verdict:
        said = f" by {clean(label.reviewer or '')}" + (f": {clean(label.note)}" if label.note else "")
        parts.append(mark(label.verdict) + Text(said))
    if label.scores:
        parts += ["", scores]
    subtitle = Text(label.id[:12], "dim")
    return Panel(Group(*parts, "", *examples), title=plain(label.latent), subtitle=subtitle, box=box.ROUNDED)


def _short_score(score: Score | None, wide: bool) -> Text:
    if score is None:
        return Text("-", "dim")
    cell = score_cell(score)
    value, interval, _ = cell.plain.split("\n")
    style = str(cell.spans[0].style)
    return Text.assemble((value, style), f" {interval}" if wide else "")
