"""The labelled data sets, probed one after the other. Killed at any time, the same command goes on."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.screen.console import Advance, meter, rated
from store.errors import UserError
from store.types import Experiment

if TYPE_CHECKING:
    from agent.session import Session
    from tools.workbench.context import Context

EVERY_SET = "all"
TOOL = "train_probe"


@dataclass
class Probed:
    """What became of each set. skipped: name and why; failed: name and the tool's error."""

    rows: list[tuple[str, Experiment]] = field(default_factory=list)
    earlier: int = 0  # of the rows, made by an earlier command
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def names_of(asked: Sequence[str]) -> list[str]:
    """The sets asked for, each once, in the order of their numbers where it is all. UserError for an unknown one."""
    from tools.workbench.datasets import dataset_names

    known = dataset_names()
    if EVERY_SET in asked:
        return known
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise UserError(
            f"There is no labelled data set {unknown[0]!r}: glossator probe --list shows the {len(known)}, or name all."
        )
    return list(dict.fromkeys(asked))


def layers_of(text: str | None) -> tuple[int, ...] | str:
    """Layers as the command line spells them: 0,6,12 or 0-29 or all. UserError for anything else."""
    if text is None:
        return ()
    if text == EVERY_SET:
        return text
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"{text!r} names no layers: write numbers such as 0,6,12 or 0-29, or all.")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


def probe_sets(session: "Session", names: Sequence[str], options: dict[str, Any]) -> Probed:
    """Probes each set by `train_probe` with these options, but none whose equal run is in the ledger."""
    return asyncio.run(_probe_sets(session.context(), names, options))


async def _probe_sets(context: "Context", names: Sequence[str], options: dict[str, Any]) -> Probed:
    from tools.workbench.datasets import dataset
    from tools.workbench.run import key_of, run

    probed = Probed()
    known = context.ledger.experiment_keys(TOOL)
    with meter("probing, data sets") as advance:
        advance(0, len(names))
        for done, name in enumerate(names):
            try:
                await asyncio.to_thread(dataset, name)
            except UserError as error:
                probed.skipped.append((name, str(error)))
                continue
            input = {"dataset": name, **options}
            id = known.get(key_of(TOOL, input, context))
            row = context.ledger.get(Experiment, id) if id else None
            if row is not None:
                probed.earlier += 1
            else:
                context.progress = rated(partial(_part, advance, done, len(names), name))
                row = await run(TOOL, input, context)
            if row.error:
                probed.failed.append((name, row.error))
            else:
                probed.rows.append((name, row))
            advance(done + 1, len(names), name)
    return probed


def _part(advance: Advance, sets: int, of: int, name: str, done: int, total: int, note: str = "") -> None:
    """Tells how far one data set is, while the bar shows how many are done."""
    advance(sets, of, ", ".join(filter(None, (f"{name}: {done:,} of {total:,}", note))))
