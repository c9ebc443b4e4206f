"""The outcome of `glossator bench planted` for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.batch.report import duration
from agent.bench.planted import Bench
from agent.bench.trials import Trial
from agent.screen.show import clean, plain

DECOY, WRITES = "decoy", "writes"


def document(bench: Bench) -> dict[str, Any]:
    """Every figure and every label; an interval is [low, high], 95 %."""
    return {
        "agent": bench.agent,
        "explainer": bench.explainer,
        "judge": bench.judge,
        "latents": bench.asked,
        "modes": {mode: summary(bench, mode) for mode in bench.modes},
        "trials": [_trial(trial) for trial in in_order(bench)],
        "stopped": bench.stopped,
        "seconds": round(bench.seconds, 3),
        "cost": {"calls": bench.calls, "usd": bench.usd},
    }


def summary(bench: Bench, mode: str) -> dict[str, Any]:
    """A mode's figures: by kind and over all that mean something, its claims about decoys, and its cost."""
    trials = [trial for trial in bench.trials if trial.mode == mode]
    kinds = list(dict.fromkeys(trial.kind for trial in in_order(bench)))
    real = [trial for trial in trials if trial.kind != DECOY]
    decoys = [trial for trial in trials if trial.kind == DECOY]
    readers = [trial for trial in trials if trial.kind != WRITES and trial.said.writes is not None]
    return {
        "all": grades(real),
        "kinds": {kind: grades([trial for trial in trials if trial.kind == kind]) for kind in kinds},
        "vouched_for": {
            "labels": share([trial.said.stands for trial in real if trial.kind != WRITES]),
            "false_on_decoys": share([trial.said.stands for trial in decoys]),
            "writing": share([trial.said.stands_writing for trial in real if trial.kind == WRITES]),
            "false_writing": share([trial.said.stands_writing for trial in readers]),
        },
        "tokens_per_latent": sum(t.said.tokens for t in trials) / len(trials) if trials else None,
        "calls_per_latent": sum(t.said.calls for t in trials) / len(trials) if trials else None,
    }


def grades(trials: Sequence[Trial]) -> dict[str, Any]:
    """Mean AUROC, floor and balanced accuracy of the graded trials, and how many clear both chance and floor."""
    from tools.workbench.stats import Interval, mean_interval

    found = [trial.grade for trial in trials if trial.grade]
    if not found:
        return {"n": len(trials), "graded": 0}
    auroc = mean_interval([Interval(grade["value"], grade["low"], grade["high"]) for grade in found])
    balanced = mean_interval([Interval(g["balanced"], g["balanced_low"], g["balanced_high"]) for g in found])
    floors = [grade["floor"] for grade in found if grade["floor"] is not None]
    return {
        "n": len(trials),
        "graded": len(found),
        "auroc": auroc.value,
        "auroc_interval": [auroc.low, auroc.high],
        "chance": 0.5,
        "floor": sum(floors) / len(floors) if floors else None,
        "balanced_accuracy": balanced.value,
        "balanced_interval": [balanced.low, balanced.high],
        "passed": sum(grade["passed"] for grade in found),
        "unparsed": sum(grade["unparsed"] for grade in found),
    }


def share(claims: Sequence[bool]) -> dict[str, Any]:
    """How many of how many, with the share's interval."""
    from tools.workbench.stats import wilson

    interval = list(wilson(sum(claims), len(claims))[1:]) if claims else None
    return {"count": sum(claims), "of": len(claims), "interval": interval}


def in_order(bench: Bench) -> list[Trial]:
    """Trials by kind as first met, latent and mode."""
    kinds = [*dict.fromkeys(trial.kind for trial in bench.trials if trial.kind != DECOY), DECOY]
    modes = list(bench.modes)
    return sorted(bench.trials, key=lambda t: (kinds.index(t.kind), t.said.latent, modes.index(t.mode)))


def _trial(trial: Trial) -> dict[str, Any]:
    kept = ("value", "low", "high", "chance", "floor", "balanced", "balanced_low", "balanced_high", "passed", "n",
            "unparsed", "mix")  # fmt: skip
    return {
        "mode": trial.mode,
        "name": trial.name,
        "kind": trial.kind,
        "meaning": trial.meaning,
        "label": trial.label,
        **asdict(trial.said),
        "grade": {name: trial.grade[name] for name in kept} if trial.grade else None,
        "reason": trial.reason,
        "experiment": trial.experiment,
    }


def render(bench: Bench, console: Console) -> None:
    """Prints a line for each kind and mode, a line for each label, and the claims that should not have been made."""
    console.print(_kinds(bench))
    console.print()
    console.print(_labels(bench))
    for mode in bench.modes:
        console.print(_claims(bench, mode))
    authors = {"oneshot": bench.explainer, "agent": bench.agent}
    said = ", ".join(f"{mode} by {authors[mode]}" for mode in bench.modes)
    text = Text(f"\nLabelled {said}; graded by {bench.judge}; {bench.calls:,} LLM calls sent, ")
    text.append(f"${bench.usd:.4f}, {duration(bench.seconds)}.")
    if bench.stopped:
        text.append(f"\nStopped early: {bench.stopped}", "yellow")
    console.print(text)


def _kinds(bench: Bench) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("mode", no_wrap=True, style="dim")
    for heading in ("labels", "AUROC\nchance 0.50", "floor", "balanced\naccuracy", "clear of\nboth"):
        table.add_column(heading, justify="right", no_wrap=True)
    found = {mode: summary(bench, mode) for mode in bench.modes}
    kinds = list(dict.fromkeys(trial.kind for trial in in_order(bench)))
    for kind in [*(kind for kind in kinds if kind != DECOY), "all of these", *(k for k in kinds if k == DECOY)]:
        for mode in bench.modes:
            row = found[mode]["all"] if kind == "all of these" else found[mode]["kinds"].get(kind, {"n": 0})
            style = "bold" if kind == "all of these" else ""
            table.add_row(Text(kind, style), mode, *_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    if not row.get("graded"):
        return [f"0 of {row['n']}", "-", "-", "-", "-"]
    low, high = row["auroc_interval"]
    floor = "-" if row["floor"] is None else f"{row['floor']:.2f}"
    return [
        f"{row['graded']} of {row['n']}",
        f"{row['auroc']:.2f} [{low:.2f}, {high:.2f}]",
        floor,
        f"{row['balanced_accuracy']:.2f}",
        f"{row['passed']} of {row['graded']}",
    ]


def _labels(bench: Bench) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("planted", ratio=2)
    table.add_column("label", ratio=3)
    table.add_column("AUROC", justify="right", no_wrap=True)
    table.add_column("floor", justify="right", no_wrap=True)
    for trial in in_order(bench):
        label = plain(trial.label) if trial.label else Text(trial.reason or "none", "yellow")
        if trial.label and trial.reason:
            label.append(f"  ({clean(trial.reason)})", "yellow")
        if len(bench.modes) > 1:
            label.append(f"  {trial.mode}", "dim")
        grade = trial.grade
        style = "green" if grade and grade["passed"] else ""
        value = Text(f"{grade['value']:.2f}", style) if grade else Text("-", "dim")
        floor = f"{grade['floor']:.2f}" if grade and grade["floor"] is not None else "-"
        table.add_row(Text(trial.meaning), label, value, Text(floor, "dim"))
    return table


def _claims(bench: Bench, mode: str) -> Text:
    found = summary(bench, mode)
    claims = found["vouched_for"]

    def told(name: str) -> str:
        counted = claims[name]
        if not counted["of"]:
            return "0 of 0"
        low, high = counted["interval"]
        return f"{counted['count']} of {counted['of']} [{low:.2f}, {high:.2f}]"

    tokens, calls = found["tokens_per_latent"] or 0, found["calls_per_latent"] or 0
    return Text(
        f"\n{mode} vouches for {told('labels')} of its labels of what a latent reads, falsely for "
        f"{told('false_on_decoys')} decoys; for {told('writing')} of those of what one writes, falsely for "
        f"{told('false_writing')} that write nothing. It used {tokens:,.0f} tokens in {calls:.1f} calls a latent."
    )
