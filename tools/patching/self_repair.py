"""How much of a part's loss later parts make good, and how much the final norm does."""

from typing import Annotated

import numpy as np
from pydantic import Field

from tools.workbench.causal import interval, said, stands_clear, told
from tools.workbench.context import Context
from tools.workbench.edges import Edges
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.repair import Repair, SelfRepair, of_edges, summed
from tools.workbench.sweeps import counted, seconds

RANDOMS = 3  # other heads
LICENCE = (
    "Self-repair is what the whole model loses less than the part's own direct effect: a small total does not show "
    "that a part is unimportant when later parts make it good, nor does it show which of them do."
)


class Input(Contrast):
    """The pairs, and the parts: heads and MLPs, each taken away on its own (L23H0, L29MLP)."""

    parts: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=60)], ...], Field(min_length=1, max_length=300)
    ]


class PartRepair(SelfRepair):
    """See `SelfRepair`, when the part is as on the corrupted prompt. low, high: 95 % interval of the total over pairs.
    repair: total less direct."""

    part: str
    low: float | None
    high: float | None
    repair: float


class Controls(ToolOutput):
    """residue: largest size of total - direct - downstream - norm over parts and pairs (0). others: heads drawn at
    random, and the mean size of their self-repair."""

    residue: float
    others: tuple[str, ...]
    others_repair: float


class Output(ToolOutput):
    """The parts, in the order given."""

    metric: str
    pairs: int
    clean: float
    corrupted: float
    parts: tuple[PartRepair, ...]
    controls: Controls
    clear: bool
    licence: str
    dropped: tuple[Dropped, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: a run with edges corrupted takes about twice as long as one from the first changed token."""
    whole, changed = counted(context, input)
    runs = 2 * (len(input.parts) + RANDOMS)
    return seconds(context.subject, 6 * whole + runs * changed)


@tool(version=2, estimate=estimate)
def self_repair(input: Input, context: Context) -> Output:
    """Takes the loss of a head or MLP apart: its direct effect on the logits, what later parts do, what the norm does.

    Resample ablation: the part is as on the corrupted prompt and everything after it is computed anew. Use it before a
    small effect of an ablation is called unimportant. Source: Rushing & Nanda 2402.15390.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    edges = [Edges(context, batch(g), measure(subject, g, "logit_difference")) for g in pairs.groups()]
    graph = edges[0].graph
    nodes = [graph.node(name) for name in dict.fromkeys(input.parts)]
    rng = context.rng("self_repair", input.model_dump_json())
    heads = [at for at, name in enumerate(graph.senders) if "H" in name and at not in nodes]
    others = [int(at) for at in rng.permutation(heads)[:RANDOMS]]
    masks = [edges[0].graph.sent_by(at) for at in (*nodes, *others)]
    found = Repair.joined([of_edges(part, masks, context.stage("patching")) for part in edges])
    repairs = found.total - found.direct
    residue = float(np.abs(repairs - found.downstream - found.norm).max())
    n = len(nodes)
    controls = Controls(
        residue=residue,
        others=tuple(graph.senders[at] for at in others),
        others_repair=float(np.abs(repairs[n:].mean(1)).mean()) if others else 0.0,
    )
    rows = []
    for at, node in enumerate(nodes):
        low, high = interval(found.total[at])
        rows.append(
            PartRepair(
                **dict(summed(found.of(at))),
                part=graph.senders[node],
                low=low,
                high=high,
                repair=float(repairs[at].mean()),
            )
        )
    own, theirs = (np.concatenate([getattr(part, run) for part in edges]) for run in ("own", "theirs"))
    best = int(np.abs(found.total[:n].mean(1)).argmax())
    clear = stands_clear(found.total[best], [*found.total[n:]])
    metric = measure(subject, pairs.kept, "logit_difference")
    verdict = (
        f"{len(rows)} parts on {len(own)} pairs, {metric.words} {own.mean():.3g} clean: "
        + "; ".join(
            f"{row.part} {told(row.total, row.low, row.high)} = direct {row.direct:+z.3g} + downstream "
            f"{row.downstream:+z.3g} + norm {row.norm:+z.3g}"
            + ("" if row.share is None else f" ({row.share:.0%} made good)")
            for row in rows[:6]
        )
        + f"; other heads' self-repair {controls.others_repair:.2g}: {said(clear, len(own))}. {LICENCE}"
        + "".join(f" {note}" for note in pairs.notes)
    )
    return Output(
        metric=metric.words,
        pairs=len(own),
        clean=float(own.mean()),
        corrupted=float(theirs.mean()),
        parts=tuple(rows),
        controls=controls,
        clear=clear,
        licence=LICENCE,
        dropped=pairs.dropped,
        verdict=verdict,
    )
