"""How well a risk does, in words and in pictures."""

import numpy as np

from tools.workbench.calibration import Bin
from tools.workbench.charts import Line, Lines, histograms
from tools.workbench.pictures import Bar, Bars, Picture, controls_said
from tools.workbench.registry import ToolOutput

LICENCE = (
    "The probabilities are those of entities and prompts like these; elsewhere, and far into a text, they are a guess."
)


class Baseline(ToolOutput):
    """What needs no look inside, fitted and tried in the same way (log-probabilities: a token's mean and
    the sum): AUROC over all pairs and over pairs of one relation.
    beaten: the probe's 95 % interval lies above it."""

    label: str
    auroc: float
    within: float
    beaten: bool


class ByRelation(ToolOutput):
    """A relation's entities that are known or unknown, the share of the latter, the AUROC among them, and that of a
    probe fitted on the other relations alone (None: there is one relation, or one class)."""

    label: str
    n: int
    unknown: float
    auroc: float | None
    transfer: float | None


class Controls(ToolOutput):
    """shuffled: the same fit on labels exchanged at random, mean of five (and the farthest from 0.5); random_direction:
    the median of twenty; name_log_probability and relation: baselines that a probe must beat."""

    shuffled: float
    shuffled_farthest: float
    random_direction: float
    name_log_probability: float
    relation: float


class Risk(ToolOutput):
    """How well a probe does on rows whose entity it never saw: AUROC with its 95 % interval, over pairs of one relation
    (within), expected calibration error, Brier score, the layer chosen on all. probe: the saved direction, fitted
    on all, whose slope and centre give log-odds. sinks: rows left out, whose token is an attention sink at one of the
    layers."""

    n: int
    sinks: int
    made_up: int
    auroc: float
    low: float
    high: float
    within: float
    calibration_error: float
    brier: float
    layer: int
    probe: str
    bins: tuple[Bin, ...]
    baselines: tuple[Baseline, ...]


def verdict(entity: Risk, token: Risk | None, controls: Controls, clear: bool) -> str:
    beaten = [f"{each.label} ({each.auroc:.2f})" for each in entity.baselines if each.beaten]
    others = [f"{each.label} ({each.auroc:.2f})" for each in entity.baselines if not each.beaten]
    told = (
        f"of {entity.n:,} entities, {entity.made_up:,} unknown, it tells unknown from known at the "
        f"entity's last token with an AUROC of {entity.auroc:.3f} [{entity.low:.3f}, {entity.high:.3f}] (within a "
        f"relation {entity.within:.3f}), entities disjoint, layer {entity.layer}; expected calibration error "
        f"{entity.calibration_error:.3f}; beats {', '.join(beaten) or 'no baseline'}"
        + (f", not {', '.join(others)}" if others else "")
        + f"; shuffled labels {controls.shuffled:.2f}, a random direction {controls.random_direction:.2f}: "
        f"{'clear' if clear else 'not clear'} of its controls"
    )
    if token is not None:
        told += (
            f". At a token being written, {token.n:,} of them: {token.auroc:.3f} [{token.low:.3f}, {token.high:.3f}], "
            f"calibration error {token.calibration_error:.3f}, "
            + ", ".join(f"{each.label} {each.auroc:.2f}" for each in token.baselines)
        )
    sinks = entity.sinks + (token.sinks if token else 0)
    left = f"; {sinks} rows left out as sinks" if sinks else ""
    return f"{told}{left}. {LICENCE}"


def diagram(risk: Risk, what: str, controls: Controls) -> Picture:
    return Picture(
        f"Risk of being made up, at {what}: {risk.n:,}, expected calibration error {risk.calibration_error:.3f}",
        Lines(
            (
                Line(
                    "share that is made up",
                    tuple(each.mean for each in risk.bins),
                    tuple(each.share for each in risk.bins),
                    tuple(each.share_low for each in risk.bins),
                    tuple(each.share_high for each in risk.bins),
                ),
            ),
            "probability of being made up, mean of a bin",
            diagonal=True,
        ),
        "share that is made up, 95 % interval",
        f"AUROC {risk.auroc:.3f} [{risk.low:.3f}, {risk.high:.3f}]. {controls_said(controls)}",
    )


def separation(p: np.ndarray, made_up: np.ndarray, controls: Controls) -> Picture:
    return Picture(
        "Risk of entities that the model does not know, and of those it knows",
        histograms(p, made_up, ("unknown", "known")),
        "probability of being made up, by a probe that never saw the entity",
        controls_said(controls),
    )


def beside(entity: Risk, controls: Controls) -> Picture:
    bars = [
        Bar(f"probe, layer {entity.layer}", entity.auroc, entity.low, entity.high),
        *(Bar(each.label, each.auroc, beside=True) for each in entity.baselines),
        Bar("shuffled labels", controls.shuffled, beside=True),
        Bar("a random direction", controls.random_direction, beside=True),
    ]
    return Picture(f"What tells unknown entities from known ones, {entity.n:,}", Bars(tuple(bars)), "AUROC")
