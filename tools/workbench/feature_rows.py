"""The nodes and edges of a sparse feature circuit, as rows and as a picture."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.causal import interval
from tools.workbench.feature_circuits import Effects, Verified, incomplete
from tools.workbench.feature_edges import Weight
from tools.workbench.features import ERROR, named
from tools.workbench.pictures import Arrow, Bar, Circuit
from tools.workbench.registry import ToolOutput
from tools.workbench.subject import Subject

LISTED = 60  # edges
DRAWN = 24  # edges of the graph
LOGITS = "logits"  # the metric, as an edge's receiver


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


def node_rows(
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


def agreement(checked: Verified) -> str:
    """How estimates and gradients go with exact changes, for a verdict; nothing where that cannot be said."""
    if checked.correlation is None or checked.gradient is None:
        return ""
    return f"; Spearman with exact changes: estimates {checked.correlation:z.2f}, gradients {checked.gradient:z.2f}"


def point_rows(subjects: Sequence[Subject], effects: Effects, wholes: Sequence[np.ndarray]) -> tuple[PointFound, ...]:
    """A row for each dictionary. wholes: float64[n] each, the exact change when all of its nodes are corrupted."""
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


def edge_rows(weights: Sequence[Weight], subjects: Sequence[Subject], by_position: bool) -> tuple[FeatureEdge, ...]:
    """The strongest edges."""
    return tuple(
        FeatureEdge(
            sender=named(each.sender, subjects, by_position),
            receiver=LOGITS if each.receiver is None else named(each.receiver, subjects, by_position),
            weight=each.weight,
        )
        for each in weights[:LISTED]
    )


def drawn(weights: Sequence[Weight], subjects: Sequence[Subject], by_position: bool) -> Circuit:
    """The strongest edges, each dictionary's nodes at one height."""
    some = weights[:DRAWN]
    edges = edge_rows(some, subjects, by_position)
    layers = {edge.sender: each.sender.point for edge, each in zip(edges, some, strict=True)}
    layers |= {
        edge.receiver: len(subjects) if each.receiver is None else each.receiver.point
        for edge, each in zip(edges, some, strict=True)
    }
    return Circuit(tuple(Arrow(each.sender, each.receiver, each.weight) for each in edges), layers)


def bar(row: NodeEffect) -> Bar:
    """What was measured, or an estimate in the colour of what was not."""
    if row.exact is None:
        return Bar(f"{row.node} (estimate)", row.estimate, beside=True)
    return Bar(row.node, row.exact, row.low, row.high)
