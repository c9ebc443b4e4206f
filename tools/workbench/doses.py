"""How strong is strong? Strengths that cost the model equally much, and the curve of an effect over strengths.

A strength is chosen by what it does to the cross-entropy of plain text, so that strengths compare across latents,
directions and layers (Chalnev et al. 2411.02193).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from tools.workbench.editing import STRONGEST, Change
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject

ROWS, WIDTH = 2, 128  # of the calibration text
NEAR = 0.05  # relative: how well a target is hit
STEPS = 8  # of the search between two strengths
FIRST = 1 / 8  # of the typical norm: where the search begins


class Dose(NamedTuple):
    """A strength, the increase of cross-entropy that it causes and the one that was asked for, nats a token."""

    strength: float
    increase: float
    target: float

    @property
    def missed(self) -> bool:
        """Whether the increase is more than 5 % off: the loss does not rise evenly, and the search has an end."""
        return abs(self.increase - self.target) > NEAR * self.target


def cross_entropy(subject: Subject, changes: Sequence[Change] = ()) -> float:
    """Mean over 254 tokens of the calibration text, nats, the changes made on every one of them."""
    tokens = subject.calibration_tokens[:ROWS, :WIDTH]
    everywhere = [replace(change, positions="all") for change in changes]
    own = subject.logits(tokens, everywhere)[:, :-1].float().log_softmax(-1)
    return -float(own.gather(-1, tokens[:, 1:, None])[..., 0].double().mean())


def doses(subject: Subject, change: Change, targets: Sequence[float], sign: int = 1) -> list[Dose]:
    """Strengths of an adding change that raise the cross-entropy by each target (ascending, nats), within 5 %.

    The nearest of those tried where none is (`Dose.missed`). Targets beyond what 100 times the residual stream's norm
    does are left out. `sign`: of the strengths.
    """
    before = cross_entropy(subject)
    typical = subject.layer_norms[change.layer]

    def at(strength: float) -> Dose:
        increase = cross_entropy(subject, [replace(change, strength=sign * strength)]) - before
        return Dose(strength, increase, 0.0)

    found: list[Dose] = []
    low, high = Dose(0.0, 0.0, 0.0), at(FIRST * typical)
    for target in targets:
        while high.increase < target and high.strength * 2 <= STRONGEST * typical:
            low, high = high, at(high.strength * 2)
        if high.increase < target:
            break
        left, right, tried = low, high, [high]
        for _ in range(STEPS):
            if abs(tried[-1].increase - target) <= NEAR * target:
                break
            share = (target - left.increase) / max(right.increase - left.increase, 1e-9)
            tried.append(at(left.strength + min(max(share, 0.15), 0.85) * (right.strength - left.strength)))
            left, right = (tried[-1], right) if tried[-1].increase < target else (left, tried[-1])
        best = min(tried, key=lambda dose: abs(dose.increase - target))
        found.append(Dose(sign * best.strength, best.increase, target))
    return found


class Curve(NamedTuple):
    """effect = maximum * x / (x + half), x the strength's size: the simplest curve that rises and saturates."""

    maximum: float
    half: float

    @property
    def slope(self) -> float:
        """Effect per unit of strength at the start."""
        return self.maximum / self.half

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.maximum * x / (x + self.half)


def fit(x: np.ndarray, effects: np.ndarray) -> Curve:
    """The curve closest to effects [n] at sizes x [n] > 0, least squares; the half strength within 0.01 to 100 x."""
    scale = float(np.abs(effects).max()) or 1.0
    bounds = np.log([0.01 * x.min(), 100 * x.max()])
    ends = [-np.inf, bounds[0]], [np.inf, bounds[1]]
    begin = [effects[-1] / scale * 2, float(np.log(x.mean()))]
    found = least_squares(lambda p: p[0] * x / (x + np.exp(p[1])) - effects / scale, begin, bounds=ends)
    return Curve(float(found.x[0]) * scale, float(np.exp(found.x[1])))


def at_cost(subject: Subject, change: Change, cost: float) -> tuple[Change, Dose]:
    """The adding change at the strength that raises the cross-entropy by `cost` nats, and the dose that it is.

    ToolError when no strength allowed does.
    """
    found = doses(subject, change, [cost])
    if not found:
        raise ToolError(f"No strength allowed raises the loss by {cost:g} nats: ask for a lower cost.")
    return replace(change, strength=found[0].strength), found[0]


def misses(found: Sequence[Dose]) -> str:
    """What a verdict says of the doses that missed their cost; nothing where none did."""
    named = ", ".join(f"{dose.increase:.3g} for {dose.target:.3g}" for dose in found if dose.missed)
    return f". The search for strengths missed costs by more than {NEAR:.0%} (nats): {named}" if named else ""
