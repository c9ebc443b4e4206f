"""Reviewing: the card of one label, and a person's verdicts as new rows."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.batch.labels import Label
from agent.batch.report import mark, score_cell
from agent.screen.show import clean, coloured, highlight, plain
from store.errors import UserError
from store.ledger import Ledger
from store.types import Explanation, Review, Verdict

BY_PERSON = "person"  # the method of an explanation that a reviewer wrote
CARD_EXAMPLES = 6


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
