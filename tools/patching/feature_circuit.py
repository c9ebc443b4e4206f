"""Which latents a behaviour goes through, and how they act on each other: a sparse feature circuit."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tools.workbench.causal import interval, said, told
from tools.workbench.context import Context
from tools.workbench.edges import gap_of
from tools.workbench.feature_circuits import (
    Effects,
    Verified,
    circuit_does,
    edges_among,
    incomplete,
    node_effects,
    verify,
)
from tools.workbench.feature_edges import Weight
from tools.workbench.features import ERROR, Features, in_order, named
from tools.workbench.pairs import Contrast, Dropped, aligned, batch, measure
from tools.workbench.patching import PROBABILITY
from tools.workbench.pictures import Arrow, Bar, Bars, Circuit, Picture, draw
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.shares import share, share_stands_clear
from tools.workbench.subject import Subject
from tools.workbench.sweeps import counted, seconds

COMPLETE = 0.15  # of the whole change: what the estimates may leave out or add
LISTED = 60  # edges
DRAWN = 24  # edges of the graph
BARS = 16  # nodes of the bars
LOGITS = "logits"  # the metric, as an edge's receiver
LOADING = 30  # seconds to open a dictionary and check it
LICENCE = (
    "Faithfulness says what the circuit's nodes suffice for when every other node is as on the corrupted prompt; an "
    "exact effect what the metric loses when that node alone is so. Effects of other nodes and edges are estimates."
)

Name = Annotated[str, Field(min_length=1, max_length=400)]


class Input(Contrast):
    """The pairs; nodes are this dictionary's latents and error, and those of further dictionaries of the same model.
    A node belongs to the circuit if it is among the `nodes` of strongest effect and has at least `threshold` of the gap
    between clean and corrupted."""

    dictionaries: tuple[Name, ...] = Field(
        (), max_length=12, description="at other hook points: l22-2304 (shipped), a folder or SAELens release:id"
    )
    metric: Literal["logit_difference", "log_probability", "probability"] = "logit_difference"
    by_position: bool = Field(False, description="a node is a latent at one position, not at all of them together")
    steps: int = Field(
        10, ge=0, le=1000, description="of integrated gradients, all of a hook point at once; 0: gradient times change"
    )
    nodes: int = Field(32, ge=1, le=500)
    threshold: float = Field(0.0, ge=0, lt=1)
    top: int = Field(16, ge=3, le=200, description="strongest nodes, verified by exact patching")
    sample: int = Field(16, ge=3, le=500, description="others that move, drawn at random, verified too")


class PointFound(ToolOutput):
    """A dictionary. whole: exact change of the metric when all of its nodes are corrupted; summed: what their estimates
    add up to; incomplete: mean size over pairs of what they leave out or add, over that of the change (None where
    nothing changes). moving: nodes that differ between the prompts."""

    hook: str
    dictionary: str
    fingerprint: str
    moving: int
    whole: float
    summed: float
    incomplete: float | None


class NodeEffect(ToolOutput):
    """A node: L15F41 is latent 41 of the dictionary at layer 15, L15error what that does not explain, @9 a position.
    Change of the metric when it goes to its corrupted value: its part of what all of the hook point do together
    (estimate), estimated alone (gradient), and where it was verified measured alone (exact), with a 95 % interval over
    pairs."""

    node: str
    hook: str
    latent: int | None
    position: int | None
    estimate: float
    gradient: float
    exact: float | None = None
    low: float | None = None
    high: float | None = None


class FeatureEdge(ToolOutput):
    """How much the metric changes because the sender, corrupted, changes the receiver directly: to first order."""

    sender: str
    receiver: str
    weight: float


class Controls(ToolOutput):
    """Faithfulness of random circuits of as many other latents with the same error nodes, of the error nodes alone, of
    the model with every node set to what it is (spliced: 1), and of the corrupted prompt (0 where all that the
    prompts' difference does goes through the dictionaries). sign_flipped: rank correlation of gradients with exact
    changes when nodes move as far the other way (negative); permuted: its mean size when gradients are dealt out to
    other nodes."""

    corrupted: float
    spliced: float
    random: tuple[float, ...]
    errors_alone: float
    sign_flipped: float | None
    permuted: float | None


class Output(ToolOutput):
    """faithfulness: (m(C) - m(none)) / (m(model) - m(none)), with a 95 % interval over pairs; without: of all nodes
    but the circuit's, near 0 where it is complete; latents_alone: of the circuit without error nodes. nodes: the
    circuit, strongest first; others: those verified beside them. edges: the strongest among the circuit's nodes and to
    the metric ("logits"). correlation: Spearman's, of estimates with exact changes of nodes alone, over the verified;
    on_sample: over the random ones; gradient_correlation: of plain gradients."""

    metric: str
    pairs: int
    clean: float
    corrupted: float
    nothing: float
    points: tuple[PointFound, ...]
    size: int
    faithfulness: float
    low: float | None
    high: float | None
    without: float
    latents_alone: float
    nodes: tuple[NodeEffect, ...]
    others: tuple[NodeEffect, ...]
    edges: tuple[FeatureEdge, ...]
    correlation: float | None
    on_sample: float | None
    gradient_correlation: float | None
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: gradients at every point, exact runs, a backward pass for each node, and the dictionaries' loading."""
    whole, changed = counted(context, input)
    points = 1 + len(input.dictionaries)
    runs = 2 * (input.top + input.sample) + 3 * points + 8
    passes = whole * (4 + 2 * points * max(1, input.steps) + input.nodes) + changed * runs
    return seconds(context.subject, passes) + LOADING * len(input.dictionaries)


@tool(version=2, estimate=estimate)
def feature_circuit(input: Input, context: Context) -> Output:
    """Finds the latents that a behaviour goes through, in one dictionary or several, and which act on which.

    Sparse feature circuits (Marks et al. 2403.19647): every latent and each dictionary's error is a node, its effect
    estimated from gradients, the strongest verified exactly; the circuit they make is run alone and left out, beside as
    many random latents; edges count direct paths between dictionaries. Corrupted values stand in for the paper's means.
    """
    subject = context.subject
    subjects = in_order([subject, *map(context.through, input.dictionaries)])
    pairs = aligned(subject, input, context.seed)
    if input.by_position:
        pairs = pairs.same_places(subject)
    parts = [
        Features(context, subjects, batch(group), measure(subject, group, input.metric)) for group in pairs.groups()
    ]
    own, theirs = (np.concatenate([getattr(part, run) for part in parts]) for run in ("own", "theirs"))
    whole = abs(gap_of(own, theirs))
    rng = context.rng("feature_circuit", input.model_dump_json())
    effects = node_effects(parts, input.by_position, input.steps, context.stage("estimating features"))
    if len(effects.nodes) < 3:
        raise ToolError("Fewer than three nodes differ between the prompts: there is no circuit to find.")
    size = int((np.abs(effects.means[: input.nodes]) >= input.threshold * whole).sum())
    if not size:
        raise ToolError(
            f"No node is estimated to have {input.threshold:g} of the gap of {whole:z.3g}: lower the threshold."
        )
    circuit = effects.nodes[:size]
    does = circuit_does(parts, effects, circuit, rng, context.stage("running circuits"))
    checked = verify(parts, effects, input.top, input.sample, rng, context.stage("verifying features"))
    weights = edges_among(parts, circuit, input.by_position, context.stage("weighing edges"))

    gap = gap_of(own, does.nothing)

    def part(values: np.ndarray) -> float:
        return float((values - does.nothing).mean()) / gap

    alone, way = does.alone - does.nothing, own - does.nothing
    _, low, high = share(alone, way)
    clear = share_stands_clear(alone, [values - does.nothing for values in does.randoms], way)
    controls = Controls(
        corrupted=part(theirs),
        spliced=part(does.spliced),
        random=tuple(map(part, does.randoms)),
        errors_alone=part(does.errors),
        sign_flipped=checked.flipped,
        permuted=checked.permuted,
    )
    rows = _rows(effects, subjects, input.by_position, checked)
    points = _points(subjects, effects, [values - own for values in does.wholes])
    edges = _edges(weights, subjects, input.by_position)
    warnings = [PROBABILITY if input.metric == "probability" else "", *pairs.notes]
    short = [point.hook for point in points if (point.incomplete or 0) > COMPLETE]
    if short and input.steps:
        warnings.append(f"At {', '.join(short)} the estimates do not add up to the whole change: take more steps.")
    warned = tuple(dict.fromkeys(filter(None, warnings)))
    metric = measure(subject, pairs.kept, input.metric)
    does_alone = told(part(does.alone), low, high, "")
    randoms = ", ".join(f"{each:z.2f}" for each in controls.random)
    verdict = (
        f"{size} nodes of {len(effects.nodes)} that move, {len(own)} pairs, {metric.words} {own.mean():.3g} clean and "
        f"{does.nothing.mean():.3g} with every node corrupted: alone they do {does_alone} of it "
        f"({part(does.latents):z.2f} without error nodes, which alone do {controls.errors_alone:z.2f}), as many random "
        f"latents {randoms}, the model without them {part(does.without):z.2f}; strongest "
        + ", ".join(f"{each.node} {each.estimate if each.exact is None else each.exact:+z.3g}" for each in rows[:4])
        + (f"; strongest edge {edges[0].sender}->{edges[0].receiver} {edges[0].weight:+z.3g}" if edges else "")
        + _agreement(checked)
        + f": {said(clear, len(own))}. {LICENCE}"
        + "".join(f" {warning}" for warning in warned)
    )
    title = f"Feature circuit of {size} nodes, {len(own)} pairs: {metric.words}"
    foot = (
        f"Faithfulness {does_alone}; controls: as many random latents {randoms}; error nodes alone "
        f"{controls.errors_alone:z.2f}; the model without the circuit {part(does.without):z.2f}."
    )
    graph, scale = _graph(weights, subjects, input.by_position), f"change of {metric.words}"
    return Output(
        metric=metric.words,
        pairs=len(own),
        clean=float(own.mean()),
        corrupted=float(theirs.mean()),
        nothing=float(does.nothing.mean()),
        points=points,
        size=size,
        faithfulness=part(does.alone),
        low=low,
        high=high,
        without=part(does.without),
        latents_alone=part(does.latents),
        nodes=rows[:size],
        others=tuple(row for row in rows[size:] if row.exact is not None),
        edges=edges,
        correlation=checked.correlation,
        on_sample=checked.on_sample,
        gradient_correlation=checked.gradient,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        warnings=warned,
        dropped=pairs.dropped,
        pictures=draw(
            context,
            "feature_circuit",
            input,
            graph=Picture(title, graph, scale, foot) if edges else None,
            nodes=Picture(title, Bars(tuple(map(_bar, rows[: min(size, BARS)]))), scale, foot),
        ),
        verdict=verdict,
    )


def _rows(
    effects: Effects, subjects: Sequence[Subject], by_position: bool, checked: Verified
) -> tuple[NodeEffect, ...]:
    """Every node that was estimated, strongest first."""
    exact = dict(zip(checked.tested, checked.exact, strict=True))
    rows = []
    for at, (node, mean, slope) in enumerate(zip(effects.nodes, effects.means, effects.gradients, strict=True)):
        changes = exact.get(at)
        low, high = (None, None) if changes is None else interval(changes)
        rows.append(
            NodeEffect(
                node=named(node, subjects, by_position),
                hook=subjects[node.point].hook,
                latent=None if node.unit == ERROR else node.unit,
                position=node.place if by_position else None,
                estimate=float(mean),
                gradient=float(slope),
                exact=None if changes is None else float(changes.mean()),
                low=low,
                high=high,
            )
        )
    return tuple(rows)


def _agreement(checked: Verified) -> str:
    if checked.correlation is None or checked.gradient is None:
        return ""
    return f"; Spearman with exact changes: estimates {checked.correlation:z.2f}, gradients {checked.gradient:z.2f}"


def _points(subjects: Sequence[Subject], effects: Effects, wholes: Sequence[np.ndarray]) -> tuple[PointFound, ...]:
    return tuple(
        PointFound(
            hook=subject.hook,
            dictionary=subject.dictionary.name,
            fingerprint=subject.dictionary.fingerprint,
            moving=sum(node.point == point for node in effects.nodes),
            whole=float(whole.mean()),
            summed=float(summed.mean()),
            incomplete=incomplete(summed, whole),
        )
        for point, (subject, whole, summed) in enumerate(zip(subjects, wholes, effects.sums, strict=True))
    )


def _edges(weights: Sequence[Weight], subjects: Sequence[Subject], by_position: bool) -> tuple[FeatureEdge, ...]:
    return tuple(
        FeatureEdge(
            sender=named(each.sender, subjects, by_position),
            receiver=LOGITS if each.receiver is None else named(each.receiver, subjects, by_position),
            weight=each.weight,
        )
        for each in weights[:LISTED]
    )


def _graph(weights: Sequence[Weight], subjects: Sequence[Subject], by_position: bool) -> Circuit:
    """The strongest edges, each dictionary's nodes at one height."""
    some = weights[:DRAWN]
    edges = _edges(some, subjects, by_position)
    layers = {edge.sender: each.sender.point for edge, each in zip(edges, some, strict=True)}
    layers |= {
        edge.receiver: len(subjects) if each.receiver is None else each.receiver.point
        for edge, each in zip(edges, some, strict=True)
    }
    return Circuit(tuple(Arrow(each.sender, each.receiver, each.weight) for each in edges), layers)


def _bar(row: NodeEffect) -> Bar:
    """What was measured, or an estimate in the colour of what was not."""
    if row.exact is None:
        return Bar(f"{row.node} (estimate)", row.estimate, beside=True)
    return Bar(row.node, row.exact, row.low, row.high)
