"""Which connections carry a behaviour: every edge estimated at once, the strongest verified, circuits measured."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import interval, said, told
from tools.workbench.context import Context
from tools.workbench.edge_scores import edge_scores
from tools.workbench.edges import Edges, gap_of, only, run_edges
from tools.workbench.figures import HeatMap
from tools.workbench.nodes import Nodes
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.patching import PROBABILITY
from tools.workbench.pictures import Picture, circuit, controls_said, draw
from tools.workbench.random_circuits import random_edges, rewired
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.shares import share_stands_clear
from tools.workbench.sites import units
from tools.workbench.sweeps import counted, seconds
from tools.workbench.verifying import by_chance, rank_correlation

DRAWN = 40  # edges of a picture
RANDOMS = 2  # random circuits of each kind and size
LICENCE = (
    "A circuit's faithfulness says what its edges suffice for when every other edge carries the corrupted prompt; an "
    "exact effect says what breaks when one edge alone does. Scores are first-order estimates."
)


class Input(Contrast):
    """The pairs. steps: 1 is EAP, more are EAP-IG. shares: sizes of the circuits that are measured, of all edges."""

    metric: Literal["logit_difference", "log_probability", "probability"] = "logit_difference"
    steps: int = Field(5, ge=1, le=100, description="interpolations of the embeddings that gradients are taken at")
    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1, max_length=10)] = (
        0.005,
        0.01,
        0.05,
    )
    top: int = Field(12, ge=1, le=200, description="edges of highest score, verified exactly")
    sample: int = Field(12, ge=3, le=200, description="others, drawn at random, verified too")


class EdgeEffect(ToolOutput):
    """An edge, spelled sender->receiver: the estimated and the exact change of the metric when it alone is corrupted,
    with a 95 % interval over pairs. drawn: whether it is of the random sample."""

    edge: str
    score: float
    exact: float
    low: float | None
    high: float | None
    drawn: bool


class Size(ToolOutput):
    """The circuit of the edges of highest score: its share of all edges, how many, and its faithfulness (1: all that
    the model does), beside the mean of random circuits of as many edges. random: of random paths from embedding to
    logits; rewired: as many into each receiver, from senders drawn at random."""

    share: float
    edges: int
    faithfulness: float
    random: float
    rewired: float


class Controls(ToolOutput):
    """no_edge: faithfulness with all edges corrupted (0). permuted: mean size of the rank correlation when scores are
    dealt out to other edges."""

    no_edge: float
    permuted: float | None


class Output(ToolOutput):
    """Circuits by size, the verified edges, strongest first, and a map of nodes: the summed size of the scores of what
    each sends. correlation: Spearman's, of score and exact effect over all that was verified; on_sample: over the
    random sample. names: the edges of the smallest circuit measured, at most 1000, for circuit_faithfulness."""

    metric: str
    pairs: int
    edges: int
    clean: float
    corrupted: float
    sizes: tuple[Size, ...]
    top: tuple[EdgeEffect, ...]
    correlation: float | None
    on_sample: float | None
    map: HeatMap
    names: tuple[str, ...]
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: of the gradients, and of the runs with edges corrupted, which take about as long again for the edges."""
    whole, changed = counted(context, input)
    runs = 2 * (1 + 2 * RANDOMS) * len(input.shares) + input.top + input.sample
    return seconds(context.subject, (4 + 3 * input.steps) * whole + runs * changed, 3 * input.steps + runs / 2)


@tool(version=4, estimate=estimate)
def edge_attribution(input: Input, context: Context) -> Output:
    """Finds the connections between heads and MLPs that carry a behaviour, and how much of it they suffice for.

    Edge attribution patching (Syed et al. 2310.10348) with integrated gradients (Hanna et al. 2403.17806): each edge
    from embedding, head or MLP to a head's query, key or value, an MLP or the logits. The strongest and a random sample
    are patched exactly; circuits of several sizes are run with every other edge corrupted, beside random circuits.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    parts = [Edges(context, batch(g), measure(subject, g, input.metric)) for g in pairs.groups()]
    graph, exists = parts[0].graph, parts[0].exists
    own, theirs = (np.concatenate([getattr(part, run) for part in parts]) for run in ("own", "theirs"))
    n = len(own)
    estimating = context.stage("estimating edges")
    scores = sum((edge_scores(p, input.steps, estimating) * p.n for p in parts), torch.zeros(())) / n
    places = exists.flatten().nonzero()[:, 0].numpy()
    strengths = scores.flatten().numpy()[places]
    rng = context.rng("edge_attribution", input.model_dump_json())
    order = places[np.argsort(-np.abs(strengths), kind="stable")]
    chosen = [*order[: input.top], *rng.permutation(order[input.top :])[: input.sample]]
    exact = run_edges(parts, [only(exists, [at]) for at in chosen], context.stage("verifying edges")) - own
    found = scores.flatten().numpy()[chosen]
    counts = [max(1, int(share * len(order))) for share in input.shares]
    circuits = []
    for k in counts:
        circuit_ = only(exists, order[:k])
        circuits += [circuit_, *(random_edges(graph, k, rng) for _ in range(RANDOMS))]
        circuits += [rewired(graph, circuit_, rng) for _ in range(RANDOMS)]
    values = run_edges(parts, [exists, *(exists & ~each for each in circuits)], context.stage("running circuits"))
    whole = gap_of(own, theirs)
    none, *faithful = ((values - theirs).mean(1) / whole).tolist()
    sizes = tuple(
        Size(
            share=share,
            edges=k,
            faithfulness=own_,
            random=float(np.mean(others[:RANDOMS])),
            rewired=float(np.mean(others[RANDOMS:])),
        )
        for share, k, (own_, *others) in zip(
            input.shares, counts, np.reshape(faithful, (len(counts), -1)).tolist(), strict=True
        )
    )
    means = exact.mean(1)
    controls = Controls(no_edge=none, permuted=by_chance(found, means, rng))
    correlation = rank_correlation(found, means)
    rows = []
    for at in np.argsort(-np.abs(means), kind="stable"):
        low, high = interval(exact[at])
        rows.append(
            EdgeEffect(
                edge=graph.edge(*divmod(int(chosen[at]), len(graph.senders))),
                score=float(found[at]),
                exact=float(means[at]),
                low=low,
                high=high,
                drawn=int(at) >= input.top,
            )
        )
    clear = share_stands_clear(values[1] - theirs, [*values[2 : 2 + 2 * RANDOMS] - theirs], own - theirs)
    warned = tuple(dict.fromkeys([PROBABILITY] * (input.metric == "probability") + list(pairs.notes)))
    metric = measure(subject, pairs.kept, input.metric)
    verdict = (
        f"{len(order)} edges on {n} pairs, {metric.words} {own.mean():.3g} clean and {theirs.mean():.3g} corrupted: "
        + ", ".join(
            f"{each.edges} edges ({each.share:.1%}) alone do {each.faithfulness:z.2f} of it (random paths "
            f"{each.random:z.2f}, random senders {each.rewired:z.2f})"
            for each in sizes
        )
        + "; strongest alone "
        + ", ".join(f"{row.edge} {told(row.exact, row.low, row.high)}" for row in rows[:3])
        + f"; rank correlation of scores and exact effects {'unknown' if correlation is None else f'{correlation:.2f}'}"
        + f": {said(clear, n)}. {LICENCE}"
        + "".join(f" {warning}" for warning in warned)
    )
    names = tuple(graph.edge(*divmod(int(at), len(graph.senders))) for at in order[: min(*counts, 1000)])
    weights = scores.flatten().numpy()[order[: len(names)]].tolist()
    nodes = _node_map(graph, scores)
    title = f"Edge attribution, {n} pairs: {metric.words}"
    said_controls = (
        controls_said(controls)
        + f" Faithfulness of {sizes[-1].edges:,} edges {sizes[-1].faithfulness:z.2f}, of as many "
        f"on random paths {sizes[-1].random:z.2f}, from random senders {sizes[-1].rewired:z.2f}."
    )
    shown = list(zip(names, weights, strict=True))[:DRAWN]
    return Output(
        metric=metric.words,
        pairs=n,
        edges=len(order),
        clean=float(own.mean()),
        corrupted=float(theirs.mean()),
        sizes=sizes,
        top=tuple(rows),
        correlation=correlation,
        on_sample=rank_correlation(found[input.top :], means[input.top :]),
        map=nodes,
        names=names,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        warnings=warned,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "edge_attribution",
            input,
            circuit=Picture(
                f"{title}; the {len(shown)} edges of highest score",
                circuit(shown, subject.n_heads // (units(subject, "k") or 1)),
                "change of the metric when corrupted (estimate)",
                said_controls,
            ),
            nodes=Picture(f"{title}; what each part sends", nodes, "summed size of its edges' scores", said_controls),
        ),
        verdict=verdict,
    )


def _node_map(graph: Nodes, scores: Tensor) -> HeatMap:
    """Layers x heads and MLP, the summed size of what each sends."""
    sent = scores.abs().sum(0)[1:].view(-1, len(set(graph.senders[1:])) // (graph.receivers[-1].layer + 1))
    columns = [*(f"H{head}" for head in range(sent.shape[1] - 1)), "MLP"]
    return HeatMap(
        rows=tuple(f"L{layer}" for layer in range(len(sent))),
        columns=tuple(columns),
        values=tuple(tuple(row) for row in sent.tolist()),
    )
