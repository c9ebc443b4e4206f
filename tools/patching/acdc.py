"""Finds a circuit by taking edges away one after another and putting back those that the behaviour misses."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.causal import said
from tools.workbench.context import Context
from tools.workbench.edge_scores import edge_scores
from tools.workbench.edges import Edges, gap_of, run_edges, without
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.pictures import Picture, circuit, draw
from tools.workbench.pruning import in_order, prune
from tools.workbench.random_circuits import random_edges, rewired
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.shares import share_stands_clear
from tools.workbench.sites import units
from tools.workbench.sweeps import counted, seconds
from tools.workbench.unfinished import Unfinished

DRAWN = 40  # edges of a picture, the strongest
RANDOMS = 2  # random circuits of each kind, of as many edges
ORDER = "receivers from the logits backwards, senders from the latest to the earliest"
LICENCE = (
    "The circuit is what a greedy search in this order kept at this threshold: another order may keep other edges that "
    "do the same, and an edge that was taken away may matter together with others."
)


class Input(Contrast):
    """The pairs, the threshold and how many edges are tried. candidates: the edges of highest EAP score; all others
    are corrupted when the search reaches their receiver. To go on with a search that its budget ended, give decided and
    kept as its output has them, and the rest as it was."""

    metric: Literal["kl", "logit_difference"] = "kl"
    tau: float = Field(0.01, description="in the metric's unit: an edge that costs less goes", allow_inf_nan=False)
    absolute: bool = Field(False, description="whether edges that do harm are kept too")
    candidates: int = Field(300, ge=1, le=100_000)
    budget: int = Field(1000, ge=1, le=100_000, description="edges that are tried at most")
    decided: int = Field(0, ge=0)
    kept: Annotated[tuple[str, ...], Field(max_length=100_000)] = ()


class Controls(ToolOutput):
    """Faithfulness, in logit difference, of nothing (0), and of random circuits of as many edges. random: of random
    paths from embedding to logits; rewired: as many into each receiver, from senders drawn at random."""

    nothing: float
    random: tuple[float, ...]
    rewired: tuple[float, ...]


class Output(ToolOutput):
    """The edges that were kept, in the order of the search. decided of candidates: whether it is done, and where to go
    on. value: the metric of what is left. faithfulness: of the circuit in logit difference, 1 where it does all that
    the model does; None until the search is done."""

    metric: str
    pairs: int
    tau: float
    order: str
    candidates: int
    decided: int
    tests: int
    kept: tuple[str, ...]
    value: float
    faithfulness: float | None
    controls: Controls
    clear: bool
    licence: str
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: a run from the middle of the model for each edge that is tried, and the scores."""
    whole, changed = counted(context, input)
    tests = min(input.budget, input.candidates - min(input.decided, input.candidates))
    return seconds(context.subject, 6 * whole + 1.5 * tests * changed, tests)


@tool(version=4, estimate=estimate)
def acdc(input: Input, context: Context) -> Output:
    """Searches a circuit greedily: takes edges away from the logits backwards and keeps those that are missed.

    Slow, one run an edge: start from the candidates of highest EAP score, and see edge_attribution first. The threshold
    is on the signed change unless absolute. Stops at its budget and can be gone on with; killed, the same call goes on
    where it was. Source: Conmy et al. 2304.14997.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    groups = pairs.groups()
    plain = [Edges(context, batch(g), measure(subject, g, "logit_difference")) for g in groups]
    parts = [part.measured_by(measure(subject, g, input.metric)) for part, g in zip(plain, groups, strict=True)]
    graph, exists = parts[0].graph, parts[0].exists
    own, theirs = (np.concatenate([getattr(part, run) for part in plain]) for run in ("own", "theirs"))
    whole = gap_of(own, theirs)
    scores = torch.stack([edge_scores(part).abs() * part.n for part in plain]).sum(0)
    count = min(input.candidates, int(exists.sum()))
    best = scores.masked_fill(~exists, -1).flatten().argsort(descending=True, stable=True)[:count]
    order = in_order(exists, exists & ~without(exists, best.tolist()))
    if input.decided > len(order):
        raise ToolError(
            f"There are {len(order)} candidates, of which {input.decided} cannot be decided: give decided, kept and "
            "candidates of one and the same search."
        )
    unfinished = Unfinished(context, "acdc", input)
    begun = unfinished.begun() or {"decided": input.decided, "kept": input.kept}

    def noted(kept: Tensor, decided: int) -> None:
        names = [graph.edge(*place) for place in order[:decided] if kept[place]]
        unfinished.note({"decided": decided, "kept": names})

    found = prune(
        parts,
        order,
        input.tau,
        1 if input.metric == "kl" else -1,
        input.absolute,
        input.budget - (begun["decided"] - input.decided),
        [graph.parse(edge) for edge in begun["kept"]],
        begun["decided"],
        context.stage("pruning edges"),
        noted,
    )
    unfinished.done()
    done = found.decided == len(order)
    kept = [place for place in order if found.kept[place]]
    rng = context.rng("acdc", input.model_dump_json())
    masks = [
        exists & ~found.kept,
        exists,
        *(exists & ~random_edges(graph, len(kept), rng) for _ in range(RANDOMS)),
        *(exists & ~rewired(graph, found.kept, rng) for _ in range(RANDOMS)),
    ]
    values = run_edges(plain, masks)
    mine, nothing, *beside = ((values - theirs).mean(1) / whole).tolist()
    random, turned = beside[:RANDOMS], beside[RANDOMS:]
    told = f"{', '.join(f'{each:z.2f}' for each in random)} and, from random senders, "
    told += ", ".join(f"{each:z.2f}" for each in turned)
    clear = done and share_stands_clear(values[0] - theirs, [*values[2:] - theirs], own - theirs)
    metric = measure(subject, pairs.kept, input.metric)
    verdict = (
        f"{len(kept)} of {found.decided} edges kept at a threshold of {input.tau:g} "
        f"({'absolute' if input.absolute else 'signed'} change of {metric.words}; {ORDER}) on {len(own)} pairs: "
        + (
            f"alone they do {mine:z.2f} of the logit difference, random circuits of that size {told}: "
            f"{said(clear, len(own))}"
            if done
            else f"{len(order) - found.decided} candidates are not decided: go on with decided and kept of this output"
        )
        + f". {LICENCE}"
    )
    names = [graph.edge(*place) for place in kept]
    strengths = zip(names, (float(scores[place]) / len(own) for place in kept), strict=True)
    strongest = sorted(strengths, key=lambda each: -each[1])[:DRAWN]
    controls = Controls(nothing=nothing, random=tuple(random), rewired=tuple(turned))
    picture = Picture(
        f"ACDC, {len(own)} pairs, threshold {input.tau:g}: {len(strongest)} of {len(kept)} edges kept",
        circuit(strongest, subject.n_heads // (units(subject, "k") or 1)),
        "size of the estimated change when corrupted",
        f"Faithfulness of those kept {mine:z.2f}, of random circuits {told}.",
    )
    return Output(
        metric=metric.words,
        pairs=len(own),
        tau=input.tau,
        order=ORDER,
        candidates=len(order),
        decided=found.decided,
        tests=found.decided - input.decided,
        kept=tuple(names),
        value=found.value,
        faithfulness=mine if done else None,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        dropped=pairs.dropped,
        pictures=draw(context, "acdc", input, circuit=picture if strongest else None),
        verdict=verdict,
    )
