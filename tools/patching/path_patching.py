"""Along which paths a behaviour goes: what one part tells another, all other heads as they are on the clean prompt."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from tools.workbench.causal import said, told
from tools.workbench.context import Context
from tools.workbench.edges import Edges
from tools.workbench.figures import HeatMap
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.patching import PROBABILITY, Progress
from tools.workbench.pictures import Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.repair import direct_effects
from tools.workbench.shares import share, share_stands_clear
from tools.workbench.sitemap import size
from tools.workbench.sweeps import counted, seconds, typical

TOP = 12  # paths that are told one by one
OTHERS = 9  # heads, drawn at random, that the strongest sender is compared with
LICENCE = (
    "A path's effect says what is lost when the sender tells these receivers, and no others, what it would on the "
    "corrupted prompt; that a path does little does not show that the sender does, which may go by others."
)

Name = Annotated[str, Field(min_length=1, max_length=60)]


class Input(Contrast):
    """The pairs and the paths. senders: heads, MLPs or embed, each on its own; none: every head. receivers: together,
    spelled L24H4.q, L23KV1.v, L20MLP or logits."""

    senders: tuple[Name, ...] = Field((), max_length=1000)
    receivers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] = ("logits",)
    through_mlps: bool = Field(False, description="paths may go through MLPs, as in 2211.00593")
    metric: Literal["logit_difference", "log_probability", "probability", "kl"] = "logit_difference"


class PathEffect(ToolOutput):
    """The change of the metric, and that as a share of the way from clean (0) to corrupted (1), with a 95 % interval
    over pairs. frozen: the change of the logit difference at the clean prompt's final norm; for paths to the logits."""

    sender: str
    change: float
    effect: float | None
    low: float | None
    high: float | None
    frozen: float | None


class Controls(ToolOutput):
    """no_sender: change when nothing is corrupted (0); every_sender: effect when all senders are at once. drawn: heads
    drawn at random, of those that are not senders where there are such and else of all senders but the strongest;
    randoms: their effects; random_heads: the mean size of these. frozen_sum, frozen_whole: the frozen effects of every
    sender to the logits added up, and that of the whole residual stream, which is the same."""

    no_sender: float
    every_sender: float | None
    drawn: tuple[str, ...]
    randoms: tuple[float, ...]
    random_heads: float | None
    frozen_sum: float | None
    frozen_whole: float | None


class Output(ToolOutput):
    """The strongest paths and, of heads, a map of shares (changes where shares are undefined). clear: whether the
    strongest does more than heads drawn at random do on average, by more than chance."""

    metric: str
    receivers: tuple[str, ...]
    pairs: int
    senders: int
    clean: float
    corrupted: float
    top: tuple[PathEffect, ...]
    map: HeatMap | None
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: half of the layers for each sender, and nearly three times as many where paths go through MLPs."""
    _, changed = counted(context, input)
    n = (len(input.senders) + OTHERS) if input.senders else context.subject.n_layers * context.subject.n_heads
    passes = (1.4 if input.through_mlps else 0.5) * n + 4
    return seconds(context.subject, passes * changed, passes / 2)


@tool(version=2, estimate=estimate)
def path_patching(input: Input, context: Context) -> Output:
    """Patches the path from a head or MLP to others: which senders tell the receivers what they need.

    The receivers see the sender as on the corrupted prompt and every other head as on the clean one; what follows them
    is computed anew. Start from the logits, then ask what the heads found there are told as q, k and v. Source: Wang et
    al. 2211.00593, section 3.1.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    parts = [Edges(context, batch(g), measure(subject, g, input.metric)) for g in pairs.groups()]
    own, theirs = (np.concatenate([getattr(part, run) for part in parts]) for run in ("own", "theirs"))
    graph = parts[0].graph
    names = [str(receiver) for receiver in graph.receivers]
    unknown = [name for name in input.receivers if name not in names]
    if unknown:
        raise ToolError(f"There is no receiver {unknown[0]!r}: spell it as in L24H4.q, L23KV1.v, L20MLP or logits.")
    rows = [names.index(name) for name in dict.fromkeys(input.receivers)]
    reach = max(graph.receivers[row].before for row in rows)
    heads = [at for at, name in enumerate(graph.senders) if "H" in name and at < reach]
    nodes = [graph.node(name) for name in dict.fromkeys(input.senders)] or heads
    late = [graph.senders[at] for at in nodes if at >= reach]
    if late:
        raise ToolError(f"{late[0]} is computed after every receiver: name an earlier sender.")
    rng = context.rng("path_patching", input.model_dump_json())
    others = rng.permutation([at for at in heads if at not in nodes])[:OTHERS].tolist()
    groups = [[node] for node in nodes] + [[int(node)] for node in others] + [nodes]
    found = [_run(part, rows, groups, input.through_mlps, context.stage("patching paths")) for part in parts]
    every = np.concatenate(found, axis=1)[-1] - own
    changes, drawn = np.split(np.concatenate(found, axis=1)[:-1] - own, [len(nodes)])
    gap = theirs - own
    shares = [share(change, gap) for change in changes]
    undefined = shares[0].effect is None
    sizes = np.array([size(change, each) for change, each in zip(changes, shares, strict=True)])
    order = np.argsort(-np.abs(sizes), kind="stable")
    to_logits = rows == [names.index("logits")] and input.metric == "logit_difference" and not input.through_mlps
    frozen, frozen_whole = None, None
    if to_logits:
        frozen, frozen_whole = (
            np.concatenate(each, -1).mean(-1) for each in zip(*(direct_effects(part) for part in parts), strict=True)
        )
    top = [
        PathEffect(
            sender=graph.senders[nodes[at]],
            change=float(changes[at].mean()),
            **shares[at]._asdict(),
            frozen=None if frozen is None else float(frozen[nodes[at]]),
        )
        for at in order[:TOP]
    ]
    if not others:
        at = rng.permutation(order[1:])[:OTHERS]
        others, drawn = [nodes[i] for i in at], changes[at]
    effects = [size(change, share(change, gap)) for change in drawn]
    still = _run(parts[0], rows, [[]], input.through_mlps)[0] - parts[0].own
    controls = Controls(
        no_sender=float(still.mean()),
        every_sender=share(every, gap).effect,
        drawn=tuple(graph.senders[int(at)] for at in others),
        randoms=tuple(effects),
        random_heads=float(np.abs(effects).mean()) if effects else None,
        frozen_sum=None if frozen is None else float(frozen.sum()),
        frozen_whole=None if frozen_whole is None else float(frozen_whole),
    )
    clear = share_stands_clear(changes[order[0]], typical(drawn), gap)
    warned = [PROBABILITY] * (input.metric == "probability") + list(pairs.notes)
    if undefined:
        warned.append("The metric is the same on clean and corrupted prompts: values are changes in its own unit.")
    metric = measure(subject, pairs.kept, input.metric)
    verdict = (
        f"paths from {len(nodes)} senders to {', '.join(input.receivers)} on {len(own)} pairs, {metric.words} "
        f"{own.mean():.3g} clean and {theirs.mean():.3g} corrupted: strongest "
        + ", ".join(
            f"{each.sender} {told(each.change if each.effect is None else each.effect, each.low, each.high)}"
            for each in top[:4]
        )
        + f" {'in the metric' if undefined else 'of the gap'}"
        + (
            ""
            if controls.random_heads is None
            else f", {len(others)} heads drawn at random {controls.random_heads:.2g} on average"
        )
        + f": {said(clear, len(own))}. {LICENCE}"
        + "".join(f" {each}" for each in warned)
    )
    map = _map(sizes, subject.n_heads) if nodes == heads and not input.senders else None
    title = f"Path patching, {len(own)} pairs, to {', '.join(input.receivers)}: {metric.words}"
    scale = "change of the metric" if undefined else "share of the gap: 0 as clean, 1 as corrupted"
    return Output(
        metric=metric.words,
        receivers=tuple(dict.fromkeys(input.receivers)),
        pairs=len(own),
        senders=len(nodes),
        clean=float(own.mean()),
        corrupted=float(theirs.mean()),
        top=tuple(top),
        map=map,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        warnings=tuple(warned),
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "path_patching",
            input,
            map=Picture(title, map, scale, controls_said(controls)) if map else None,
        ),
        verdict=verdict,
    )


def _run(
    edges: Edges,
    receivers: list[int],
    groups: Sequence[list[int]],
    through_mlps: bool,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """float64[groups, n]: the metric when the receivers are told by each group of senders what is so on the corrupted
    prompt, directly or by MLPs as well."""
    masks = []
    for group in groups:
        mask = torch.zeros_like(edges.exists)
        mask[np.ix_(receivers, group)] = True
        masks.append(mask)
    if not through_mlps:
        return edges.run(masks, progress)
    mlps = [at for at, name in enumerate(edges.graph.senders) if name.endswith("MLP")]
    found = []
    for done, (mask, group) in enumerate(zip(masks, groups, strict=True), 1):
        mask[np.ix_(receivers, mlps)] = True
        found.append(edges.run([mask], sent=edges.through_mlps(group))[0])
        progress(done, len(groups))
    return np.stack(found)


def _map(sizes: np.ndarray, heads: int) -> HeatMap:
    """Layers x heads, of every head that comes before a receiver."""
    table = sizes.reshape(-1, heads)
    return HeatMap(
        rows=tuple(f"L{layer}" for layer in range(len(table))),
        columns=tuple(f"H{head}" for head in range(heads)),
        values=tuple(tuple(row) for row in table.tolist()),
    )
