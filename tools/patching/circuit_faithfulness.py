"""Does a circuit do what the model does, is anything of it missing, and is anything of it idle?"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tools.workbench.causal import said, told
from tools.workbench.context import Context
from tools.workbench.edges import Edges, gap_of, run_edges
from tools.workbench.nodes import Nodes
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.patching import PROBABILITY
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.random_circuits import random_edges, random_nodes, rewired
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.repair import Repair, SelfRepair, attached, of_edges, repair_said
from tools.workbench.shares import share, share_stands_clear
from tools.workbench.sweeps import counted, seconds

DRAWN = 16  # parts of a picture
RANDOMS = 3  # random circuits of the same size; of edges of each kind
IDLE = 0.01  # of the gap: an element whose loss costs less
TESTED = 64  # elements that are left out one by one
LICENCE = (
    "Faithfulness says what the circuit suffices for when everything else is as on the corrupted prompt; that it is "
    "faithful does not make it the only one, which is what completeness asks."
)

Name = Annotated[str, Field(min_length=1, max_length=60)]


class Input(Contrast):
    """The pairs, and a circuit of nodes (L5H3, L9MLP) or of edges (L5H3->L23H0.q, embed->L2MLP, L9MLP->logits). To a
    circuit of nodes the embedding always belongs and, with every_mlp, each MLP: they are not counted among its parts.
    """

    nodes: tuple[Name, ...] = Field((), max_length=2000)
    edges: tuple[Name, ...] = Field((), max_length=2000)
    every_mlp: bool = Field(True, description="of nodes: MLPs belong to the circuit, as in 2211.00593")
    metric: Literal["logit_difference", "log_probability", "probability", "kl"] = "logit_difference"
    subsets: int = Field(6, ge=0, le=64, description="random halves of the circuit, for completeness")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.nodes) == bool(self.edges):
            raise ValueError("give nodes or edges of a circuit, not both")
        return self


class Element(ToolOutput):
    """A part of the circuit, and the loss of faithfulness when it is left out of it."""

    name: str
    loss: float


class Controls(ToolOutput):
    """Faithfulness of nothing (0), and of random circuits of as many parts: nodes of the same kind from the same layers
    or, where there are no others, the nearest; edges of random paths from embedding to logits. rewired: of edges, as
    many into each receiver, from senders drawn at random."""

    nothing: float
    random: tuple[float, ...]
    rewired: tuple[float, ...]


class Output(ToolOutput):
    """faithfulness: of the circuit alone, 1 where it does all that the model does, with a 95 % interval over pairs.
    without: of the model without the circuit; near 0 where nothing outside can do the same. self_repair: of nodes, what
    of that loss is their own direct one and what the rest makes of it, or why that is not told. incompleteness: mean
    size of faithfulness(circuit less K) - faithfulness(model less K) over random halves K of the circuit (Wang et al.
    2211.00593, section 4). elements: what leaving each out costs, least first; idle: those that cost less than 1 %."""

    metric: str
    pairs: int
    size: int
    edges: int
    clean: float
    corrupted: float
    faithfulness: float
    low: float | None
    high: float | None
    without: float
    self_repair: SelfRepair | str
    incompleteness: float | None
    elements: tuple[Element, ...]
    idle: tuple[str, ...]
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: a run with edges corrupted takes about twice as long as a plain one."""
    _, changed = counted(context, input)
    runs = 4 + RANDOMS * (1 + bool(input.edges)) + 2 * input.subsets + min(TESTED, len(input.nodes) + len(input.edges))
    return seconds(context.subject, 2 * runs * changed, runs / 2)


@tool(version=4, estimate=estimate)
def circuit_faithfulness(input: Input, context: Context) -> Output:
    """Measures a circuit: what it does alone, what the model does without it, and what each part of it is needed for.

    Everything outside the circuit is as on the corrupted prompt (token replacement), and what follows is computed anew.
    Use it on what edge_attribution, acdc or attribution_patching found.
    """
    subject = context.subject
    pairs = aligned(subject, input, context.seed)
    parts = [Edges(context, batch(g), measure(subject, g, input.metric)) for g in pairs.groups()]
    own, theirs = (np.concatenate([getattr(part, run) for part in parts]) for run in ("own", "theirs"))
    whole = gap_of(own, theirs)
    graph, exists = parts[0].graph, parts[0].exists
    nodes, edges, always = _parts(graph, input)
    names = [graph.senders[at] for at in nodes] + [graph.edge(*place) for place in edges]
    members = _masks(graph, nodes, edges)
    rng = context.rng("circuit_faithfulness", input.model_dump_json())

    def together(chosen: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.zeros_like(exists), *chosen]).any(0)

    def alone(chosen: Sequence[Tensor]) -> Tensor:
        return exists & ~(always | together(chosen))

    halves = [rng.permutation(len(members))[: max(1, len(members) // 2)] for _ in range(input.subsets)]
    tested = list(range(len(members)))[:TESTED]
    masks = [alone(members), together(members) & ~always, exists]
    for _ in range(RANDOMS):
        drawn = _masks(graph, random_nodes(graph, nodes, rng), []) if nodes else [random_edges(graph, len(edges), rng)]
        masks.append(alone(drawn))
    masks += [alone([rewired(graph, together(members), rng)]) for _ in range(RANDOMS if edges else 0)]
    masks += [alone([m for i, m in enumerate(members) if i not in set(half)]) for half in halves]
    masks += [together([members[i] for i in half]) for half in halves]
    masks += [alone([m for i, m in enumerate(members) if i != left]) for left in tested]
    values = run_edges(parts, masks, context.stage("running circuits"))
    faithful = ((values - theirs).mean(1) / whole).tolist()
    cut = 3 + RANDOMS * (1 + bool(edges))
    randoms, turned, lost = faithful[3 : 3 + RANDOMS], faithful[3 + RANDOMS : cut], faithful[cut + 2 * len(halves) :]
    gaps = np.abs(np.subtract(faithful[cut : cut + len(halves)], faithful[cut + len(halves) : cut + 2 * len(halves)]))
    _, low, high = share(values[0] - theirs, own - theirs)
    repair: SelfRepair | str = "an edge is no part that could be lost as a whole."
    if input.nodes:
        repair = attached(lambda: Repair.joined([of_edges(part, masks[1:2]) for part in parts]).of(0))
    elements = sorted((Element(name=names[i], loss=faithful[0] - loss) for i, loss in zip(tested, lost, strict=True)),
                      key=lambda each: abs(each.loss))  # fmt: skip
    idle = tuple(each.name for each in elements if abs(each.loss) < IDLE)
    incompleteness = float(gaps.mean()) if len(gaps) else None
    clear = share_stands_clear(values[0] - theirs, [*values[3:cut] - theirs], own - theirs)
    warnings = [PROBABILITY if input.metric == "probability" else "", *pairs.notes]
    if uncounted := len(set(input.nodes)) - len(nodes):
        warnings.append(f"{uncounted} of the nodes given belong to any circuit and are not counted.")
    if len(members) > TESTED:
        warnings.append(f"Of {len(members)} parts the first {TESTED} were left out one by one.")
    warned = tuple(dict.fromkeys(filter(None, warnings)))
    metric = measure(subject, pairs.kept, input.metric)
    kept = int((exists & ~masks[0]).sum())
    verdict = (
        f"{len(members)} {'nodes' if input.nodes else 'edges'} ({kept} of {int(exists.sum())} edges) on {len(own)} "
        f"pairs, {metric.words} {own.mean():.3g} clean and {theirs.mean():.3g} corrupted: alone they do "
        f"{told(faithful[0], low, high, '')} of it, the model without them {faithful[1]:z.2f}, random circuits of that "
        f"size {', '.join(f'{each:z.2f}' for each in randoms)}"
        + ("" if not turned else f" and, from random senders, {', '.join(f'{each:z.2f}' for each in turned)}")
        + "; "
        + ("" if incompleteness is None else f"halves left out differ from the model by {incompleteness:z.2f}; ")
        + f"{len(idle)} of {len(elements)} tested cost less than 1 %: {said(clear, len(own))}. {LICENCE} "
        + repair_said(repair, "What the model loses without them")
        + "".join(f" {warning}" for warning in warned)
    )
    bars = [Bar("the circuit alone", faithful[0], low, high), Bar("the model without it", faithful[1])]
    bars += [Bar("control: a random circuit", value, beside=True) for value in randoms]
    bars += [Bar("control: random senders", value, beside=True) for value in turned]
    bars += [Bar(f"lost without {each.name}", each.loss) for each in reversed(elements[-DRAWN:])]
    kind = "nodes" if input.nodes else "edges"
    title = f"A circuit of {len(members)} {kind}, {len(own)} pairs: {metric.words}"
    return Output(
        metric=metric.words,
        pairs=len(own),
        size=len(members),
        edges=kept,
        clean=float(own.mean()),
        corrupted=float(theirs.mean()),
        faithfulness=faithful[0],
        low=low,
        high=high,
        without=faithful[1],
        self_repair=repair,
        incompleteness=incompleteness,
        elements=tuple(elements),
        idle=idle,
        controls=Controls(nothing=faithful[2], random=tuple(randoms), rewired=tuple(turned)),
        clear=clear,
        licence=LICENCE,
        warnings=warned,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "circuit_faithfulness",
            input,
            parts=Picture(title, Bars(tuple(bars)), "faithfulness: 0 as corrupted, 1 as the whole model"),
        ),
        verdict=verdict,
    )


def _parts(graph: Nodes, input: Input) -> tuple[list[int], list[tuple[int, int]], Tensor]:
    """The circuit's nodes, or its edges, and the edges that are kept whatever the circuit. ToolError where no node is
    left that does not belong to any."""
    edges = list(dict.fromkeys(graph.parse(edge) for edge in input.edges))
    free = [at for at, name in enumerate(graph.senders) if name == "embed" or (input.every_mlp and "MLP" in name)]
    nodes = [at for at in dict.fromkeys(graph.node(name) for name in input.nodes) if at not in free]
    if input.nodes and not nodes:
        raise ToolError("These nodes belong to any circuit: name heads as well, or MLPs with every_mlp false.")
    always = torch.zeros_like(graph.exists)
    if input.nodes:
        always[:, free] = graph.exists[:, free]
    return nodes, edges, always


def _masks(graph: Nodes, nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The edges of each part: what a node sends, or the edge itself."""
    alone = [torch.zeros_like(graph.exists) for _ in edges]
    for mask, place in zip(alone, edges, strict=True):
        mask[place] = True
    return [graph.sent_by(at) for at in nodes] + alone
