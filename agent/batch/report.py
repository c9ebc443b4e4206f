"""What a batch of labels looks like: the table of a small batch, the morning report of a large one.

Labels are ranked by their margin: how far the lower end of a score's 95 % interval lies above both chance and the
floor (another latent's explanation under the same scorer), for the scorer where that is least.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.batch.labels import Label, base
from agent.screen.show import clean, coloured, highlight, plain
from store.types import Explanation, LatentId, Score

TABLE_AT_MOST = 24  # latents shown with their examples; larger batches get the morning report
EXAMPLES = 2
RANKED = 10
BARS = "▁▂▃▄▅▆▇█"
MARKS = {"accept": ("✓ accepted", "green"), "reject": ("✗ rejected", "red"), "rewrite": ("✎ rewritten", "blue")}
BINS = 20  # of the sparkline over [0, 1]


@dataclass
class Batch:
    """The outcome of one `glossator label`. `usd` is what this run paid; `unpriced` calls are not in it."""

    asked: int
    labels: list[Label] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)  # latent, tool, reason
    stopped: str | None = None  # why the batch ended early
    earlier: int = 0  # labels that were there before this run
    calls: int = 0
    usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0

    @property
    def labelled(self) -> set[str]:
        """Latents with an explanation."""
        return {label.latent for label in self.labels}

    @property
    def scored(self) -> set[str]:
        """Latents with an explanation that has a score."""
        return {label.latent for label in self.labels if label.scores}

    @property
    def failed(self) -> set[str]:
        """Latents that could not be explained."""
        return {latent for latent, _, _ in self.failures} - self.labelled

    @property
    def not_reached(self) -> int:
        """Latents that the batch did not come to."""
        return self.asked - len(self.labelled | self.failed)

    @property
    def cost(self) -> str:
        if not self.unpriced:
            return f"{self.calls:,} LLM calls, ${self.usd:.4f}"
        priced = f", ${self.usd:.4f} and" if self.usd else ","
        return f"{self.calls:,} LLM calls{priced} {self.unpriced:,} of unknown price"


Evidence = Callable[[str], Explanation]  # the explanation with this id, its evidence included


def document(batch: Batch, evidence: Evidence) -> dict[str, Any]:
    """The batch as one JSON document; examples only in batches that would show them."""
    with_examples = len(batch.labels) <= TABLE_AT_MOST
    return {
        "asked": batch.asked,
        "labelled": len(batch.labelled),
        "scored": len(batch.scored),
        "failed": len(batch.failed),
        "earlier": batch.earlier,
        "not_reached": batch.not_reached,
        "stopped": batch.stopped,
        "seconds": round(batch.seconds, 3),
        "cost": {"calls": batch.calls, "usd": batch.usd, "unpriced_calls": batch.unpriced},
        "labels": [
            label.document()
            | ({"examples": [e.model_dump() for e in strongest(evidence(label.id))]} if with_examples else {})
            for label in batch.labels
        ],
        "failures": [{"latent": latent, "tool": tool, "reason": reason} for latent, tool, reason in batch.failures],
    }


def strongest(explanation: Explanation) -> list[Any]:
    """The two examples of the evidence with the highest peaks, from different documents where there are two."""
    ranked = sorted(explanation.evidence, key=lambda example: -example.peak)
    first = {example.document: example for example in reversed(ranked)}
    chosen = sorted(first.values(), key=lambda example: -example.peak)[:EXAMPLES]
    return chosen + [example for example in ranked if example not in chosen][: EXAMPLES - len(chosen)]


def render(batch: Batch, evidence: Evidence, console: Console) -> None:
    """Prints the table or, for a large batch, the morning report."""
    if not batch.labels:
        console.print(Text("No latent was labelled.", "bold"))
    elif len(batch.labels) <= TABLE_AT_MOST:
        console.print(label_table(batch.labels, evidence, console))
    else:
        console.print(distribution(batch.labels))
        ranked = sorted((label for label in batch.labels if label.scores), key=lambda label: label.margin)
        shown = min(RANKED, len(ranked) // 2)
        best = [label for label in ranked[::-1][:shown] if label.margin > 0]
        console.print(Text(f"\nThe {len(best)} best" if best else "\nNo label clears chance and floor", "bold"))
        if best:
            console.print(scoreboard(best, console))
        console.print(Text(f"\nThe {shown} most doubtful", "bold"))
        console.print(scoreboard(ranked[:shown], console))
    if batch.failures:
        console.print()
        console.print(failure_table(batch.failures))
    console.print(summary(batch))


def label_table(labels: Sequence[Label], evidence: Evidence, console: Console) -> Table:
    """Latent, explanation with its two strongest examples, one column per scorer."""
    scorers = sorted({score.scorer for label in labels for score in label.scores})
    several = len({label.method for label in labels}) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("latent", justify="right", no_wrap=True, vertical="top")
    table.add_column("explanation and its strongest examples", ratio=1, overflow="fold")
    for scorer in scorers:
        table.add_column(scorer_heading(scorer, labels), justify="right", no_wrap=True)
    cells = 2 * max(20, console.width - 12 - 13 * len(scorers))
    for label in labels:
        parts: list[RenderableType] = [Text(plain(label.text).plain, "bold")]
        if several:
            parts.append(Text(f"by {label.method}", "dim"))
        for e in strongest(evidence(label.id)):
            text = highlight(e.tokens, e.activations, colour=coloured(console), cells=cells)
            parts.append(Padding(text, (0, 0, 0, 2)))
        found = {score.scorer: score for score in label.scores}
        table.add_row(str(label.index), Group(*parts), *(score_cell(found.get(scorer)) for scorer in scorers))
        table.add_row()
    return table


def scorer_heading(scorer: str, labels: Sequence[Label]) -> str:
    """The scorer and its chance level, which is a property of the scorer."""
    chances = {score.chance for label in labels for score in label.scores if score.scorer == scorer}
    chance = f"{chances.pop():.2f}" if len(chances) == 1 else "varies"
    return f"{scorer.removeprefix('score_')}\nchance {chance}"


def score_cell(score: Score | None) -> Text:
    """Value, 95 % interval and floor, one under another; green or red only where the interval decides."""
    if score is None:
        return Text("-", "dim")
    style = "green" if score.low > base(score) else "red" if score.value <= base(score) else "yellow"
    floor = f"floor {score.floor:.2f}" if score.floor is not None else "no floor"
    value, interval = f"{score.value:.2f}", f"[{score.low:.2f}, {score.high:.2f}]"
    return Text.assemble((value, f"bold {style}"), f"\n{interval}\n", (floor, "dim"))


def scoreboard(labels: Sequence[Label], console: Console, first: int = 1) -> Table:
    """One line per label, numbered from `first`; the interval only where the terminal is wide."""
    scorers = sorted({score.scorer for label in labels for score in label.scores})
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("latent", justify="right", no_wrap=True)
    table.add_column("explanation", ratio=1)
    for scorer in scorers:
        table.add_column(scorer.removeprefix("score_"), justify="right", no_wrap=True)
    if any(label.verdict for label in labels):
        table.add_column("verdict", no_wrap=True)
    wide = console.width >= 100
    for number, label in enumerate(labels, first):
        by = {score.scorer: score for score in label.scores}
        text = Text.assemble(plain(label.text), (f"  {clean(label.method)}", "dim") if wide else "")
        table.add_row(
            str(number),
            str(label.index),
            text,
            *(_short_score(by.get(scorer), wide) for scorer in scorers),
            mark(label.verdict),
        )
    return table


def mark(verdict: str | None) -> Text:
    """A verdict as it is shown; nothing for none."""
    return Text(*MARKS[verdict]) if verdict else Text("")


def _short_score(score: Score | None, wide: bool) -> Text:
    if score is None:
        return Text("-", "dim")
    cell = score_cell(score)
    value, interval, _ = cell.plain.split("\n")
    style = str(cell.spans[0].style)
    return Text.assemble((value, style), f" {interval}" if wide else "")


def distribution(labels: Sequence[Label]) -> Table:
    """Per scorer: how the scores and, below, the floors lie between 0 and 1."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for label in labels:
        for score in label.scores:
            groups[score.scorer].append(score)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("scorer", "n", "0 … 1", "median", "above floor", "unparsed"):
        table.add_column(heading, justify="left" if heading in ("scorer", "0 … 1") else "right", no_wrap=True)
    for scorer, scores in sorted(groups.items()):
        values, floors = [s.value for s in scores], [s.floor for s in scores if s.floor is not None]
        above = sum(s.low > base(s) for s in scores) / len(scores)
        judged, unparsed = sum(s.n for s in scores), sum(s.unparsed for s in scores)
        share = f"{unparsed / max(1, judged + unparsed):.1%}"
        table.add_row(Text(scorer.removeprefix("score_")), *_spread(values), f"{above:.0%}", share)
        if floors:
            table.add_row(Text("  floor", "dim"), *_spread(floors), "", "")
    return table


def _spread(values: Sequence[float]) -> tuple[str, str, str]:
    return f"{len(values):,}", sparkline(values), f"{median(values):.2f}"


def sparkline(values: Sequence[float]) -> str:
    """Counts of `values` in 20 equal bins of [0, 1], as bars; an empty bin is a space."""
    counts = Counter(min(BINS - 1, max(0, int(value * BINS))) for value in values)
    return sparkline_of_counts([counts[i] for i in range(BINS)])


def sparkline_of_counts(counts: Sequence[int]) -> str:
    """One bar per count, the largest the highest; a count of 0 is a space."""
    most = max(counts, default=0)
    return "".join(BARS[(count * len(BARS) - 1) // most] if count else " " for count in counts)


def reason_kind(reason: str) -> str:
    """`reason` without its quotations and numbers, so that like failures count together."""
    return re.sub(r"\d[\d.,]*\d|\d", "#", re.sub(r"'[^']*'|\"[^\"]*\"", "#", plain(reason).plain))


def failure_table(failures: Sequence[tuple[str, str, str]]) -> Table:
    """Failures by reason, the most frequent first, each with the tools that failed so and a few of the latents."""
    groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for failure in failures:
        groups[reason_kind(failure[2])].append(failure)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("reason", ratio=1)
    table.add_column("latents", no_wrap=True)
    for group in sorted(groups.values(), key=lambda group: -len(group)):
        latents = sorted({LatentId.parse(latent).index for latent, _, _ in group})
        tools = ", ".join(sorted({tool for _, tool, _ in group}))
        reason = Text.assemble((f"{tools}: ", "dim"), common_words([plain(reason).plain for _, _, reason in group]))
        named = ", ".join(map(str, latents[:3])) + (", …" if len(latents) > 3 else "")
        table.add_row(f"{len(latents):,}", reason, named)
    return table


def common_words(texts: Sequence[str]) -> str:
    """The words that all `texts` share, in place; "…" where they differ. Texts of other lengths give the first one."""
    words = [text.split() for text in texts]
    if len({len(each) for each in words}) > 1:
        return texts[0]
    return " ".join(each[0] if len(set(each)) == 1 else "…" for each in zip(*words, strict=True))


def summary(batch: Batch) -> Text:
    """The last lines: how many, at what cost, and whether something stopped the batch."""
    counts = (
        (batch.earlier, "of them in an earlier run"),
        (len(batch.labelled - batch.scored), "without a score"),
        (len(batch.failed), "failed"),
        (batch.not_reached, "not reached"),
    )
    parts = [f"{len(batch.labelled):,} of {batch.asked:,} latents labelled"]
    parts += [f"{count:,} {what}" for count, what in counts if count]
    text = Text("\n" + ", ".join(parts) + f"; {duration(batch.seconds)}, {batch.cost}.")
    if batch.stopped:
        text.append(f"\nStopped early: {batch.stopped}", "yellow")
    return text


def duration(seconds: float) -> str:
    """Seconds as "42 s", "3 min 20 s" or "6 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
