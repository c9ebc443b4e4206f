"""The effect of edits beside the effects of what is as large and should do nothing.

    measured   the metric without an edit, with it, and with its controls, on the same prompts; a verdict in words

Controls: a change of length zero, nine random directions of equal norm (the one that does most is kept), and another
unit that is active on the same prompts: a latent's decoder direction, or the neuron or head of the same layer that is
most nearly as active. A change that depends on the token keeps its size under control, token by token and place by
place.

How often is a random direction called clear? Of 50 that were added at layer 15 with norm 60, in 600 draws, with nine
others as controls: `stands_clear` (a metric) in 0 to 2 %, `outweighs` (KL) in 1 to 8 %, as the prompts were. With one
control it would be in 3 to 10 % and 8 to 29 % (BENCHMARKS.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.illusion import Illusion, exchanged
from tools.workbench.metrics import Metric, Observed, divergence, observe_each
from tools.workbench.peers import active_latent, unit_peer
from tools.workbench.registry import ToolOutput
from tools.workbench.stats import CONFIDENCE

RANDOMS = 9  # random directions: one more like them would do more than all of them once in ten times
LEAST_KL = 1e-9  # nats: less is rounding


class Effect(ToolOutput):
    """The metric under one condition, mean over prompts: its value, its change from no edit with a 95 % interval
    (Student's t over prompts; None for a single prompt), the next token's KL(no edit || edited) in nats, and the mean
    length of the change made to a token."""

    value: float
    effect: float
    low: float | None
    high: float | None
    kl: float
    norm: float


class Controls(ToolOutput):
    """The same prompts and metric under what should do little. random_direction: the one of several that does most;
    randoms: the effect of each. other: the active unit that was taken."""

    no_edit: Effect
    random_direction: Effect
    randoms: tuple[float, ...]
    random_active: Effect
    other: str


class CausalOutput(ToolOutput):
    """What the edit does and whether that stands clear of its controls: larger than each, by more than chance."""

    metric: str
    prompts: int
    effect: Effect
    controls: Controls
    clear: bool
    verdict: str
    illusion: Illusion | None = None


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of values [n] (Student's t); (None, None) for one value."""
    if len(values) < 2:
        return None, None
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def effect_of(before: Observed, after: Observed) -> Effect:
    """The change between two observations of the same prompts."""
    change = after.values - before.values
    low, high = interval(change)
    return Effect(
        value=float(after.values.mean()),
        effect=float(change.mean()),
        low=low,
        high=high,
        kl=float(divergence(before.log_probabilities, after.log_probabilities).mean()),
        norm=after.norm,
    )


def stands_clear(
    change: np.ndarray,
    controls: Sequence[np.ndarray],
    low: Callable[[np.ndarray], float | None] = lambda values: interval(values)[0],
) -> bool:
    """Whether the mean of change [n] is larger, either way, than that of every control [n] by more than chance; low:
    the lower end of the 95 % interval that says so."""
    sign = np.sign(change.mean())
    lows = [low(sign * change)]
    lows += [low(sign * change - np.sign(control.mean()) * control) for control in controls]
    return all(each is not None and each > 0 for each in lows)


def outweighs(kl: np.ndarray, controls: Sequence[np.ndarray]) -> bool:
    """Whether divergences kl [n] are larger than those of every control [n], prompt by prompt, by more than chance.

    Their logarithms are compared: what steering does to a prompt goes by factors, and a few prompts that any push
    throws over would drown the rest.
    """
    logs = [np.log(np.maximum(each, LEAST_KL)) for each in (kl, *controls)]
    lows = [interval(logs[0] - control)[0] for control in logs[1:]]
    return all(low is not None and low > 0 for low in lows)


def told(value: float, low: float | None, high: float | None, sign: str = "+") -> str:
    """A number and its interval: +1.20 [+1.00, +1.40]."""
    spec = f"{sign}z.3g"  # z: no -0
    return f"{value:{spec}}" + (f" [{low:{spec}}, {high:{spec}}]" if low is not None else "")


def said(clear: bool, n: int) -> str:
    """How a verdict ends."""
    if n < 2:
        return "one prompt gives no interval: give more"
    return "clear of its controls" if clear else "not clear of its controls"


def measured(
    context: Context,
    edits: Sequence[Edit],
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    signs: np.ndarray | None = None,
    partners: Sequence[int] | None = None,
) -> CausalOutput:
    """The edits' effect on the metric over prompts (token ids, BOS in front), its controls and the verdict.

    signs: [n], what each prompt's metric is multiplied by. partners: which other prompt's activations the illusion
    check takes; None: the next prompt's.
    """
    subject = context.subject
    rng = context.rng("causal", metric.model_dump_json(), *(edit.model_dump_json() for edit in edits))
    groups = [prepare(subject, [edit], context.directions) for edit in edits]

    def seen(changed: Sequence[Sequence[Change]]) -> list[Observed]:
        found = observe_each(context, prompts, metric, [change for group in changed for change in group])
        return found if signs is None else [replace(each, values=signs * each.values) for each in found]

    (before,) = seen([])
    (after,) = seen(groups)
    (nothing,) = seen([still(group) for group in groups])
    drawn = seen([along_random(context, group, rng) for group in groups])
    random = max(drawn, key=lambda o: abs(float((o.values - before.values).mean())))
    peers = [peer(context, edit, group, prompts, rng) for edit, group in zip(edits, groups, strict=True)]
    (other,) = seen([group for group, _ in peers])
    change = after.values - before.values
    clear = stands_clear(change, [control.values - before.values for control in (*drawn, other)])
    effect = effect_of(before, after)
    controls = Controls(
        no_edit=effect_of(before, nothing),
        random_direction=effect_of(before, random),
        randoms=tuple(float((o.values - before.values).mean()) for o in drawn),
        random_active=effect_of(before, other),
        other=", ".join(name for _, name in peers),
    )
    verdict = (
        f"changes {metric.words} by {told(effect.effect, effect.low, effect.high)}, from {before.values.mean():.3g}, "
        f"moving a token by {effect.norm:.3g}; {RANDOMS} random directions, moving it by {random.norm:.3g}, change "
        f"it by at most {controls.random_direction.effect:+.3g}, {controls.other}, moving it by {other.norm:.3g}, by "
        f"{controls.random_active.effect:+.3g}: {said(clear, len(prompts))}"
    )
    illusion = _illusion(context, edits, groups, prompts, metric, partners)
    if illusion is not None and illusion.warning:
        verdict += f". {illusion.warning}"
    return CausalOutput(
        metric=metric.words,
        prompts=len(prompts),
        effect=effect,
        controls=controls,
        clear=clear,
        verdict=verdict,
        illusion=illusion,
    )


def still(group: Sequence[Change]) -> list[Change]:
    """The same changes with length zero."""
    return [replace(change, write=torch.zeros(change.shape)) for change in group]


def along_random(context: Context, group: Sequence[Change], rng: np.random.Generator, n: int = RANDOMS) -> list[Change]:
    """One edit's changes along n random directions of equal norm, to be read together; each the same at all places."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    units = torch.randn(n, *group[0].shape, generator=generator).flatten(1)
    units = units / units.norm(dim=1, keepdim=True)
    return along(group, units.reshape(n, *group[0].shape).to(context.subject.device))


def along(group: Sequence[Change], unit: Tensor) -> list[Change]:
    """One edit's changes along another unit vector [*shape], or several [n, *shape], of equal norm at each place."""
    traced = len(group) > 1 and group[0].operation != "add" and all("hook_resid" in change.hook for change in group)
    trace = object() if traced else None
    return [change.along(unit * change.length, trace) for change in group]


def peer(
    context: Context,
    edit: Edit,
    group: Sequence[Change],
    prompts: Sequence[Sequence[int]],
    rng: np.random.Generator,
) -> tuple[list[Change], str]:
    """One edit's changes made to another unit that is active on the prompts, and its name.

    To the neuron or head of the same layers whose activation is closest in size, scaled to equal norm; along the
    decoder direction of the latent closest to the edited one, or of any where a direction is edited. ToolError when no
    other is active.
    """
    if edit.neuron is not None or edit.head is not None:
        changed, index = unit_peer(context, group, prompts)
        return changed, f"{edit.kind} {index}"
    other = active_latent(context, prompts, rng, edit.latent)
    decoder = context.subject.dictionary.decoder[other].float()
    return along(group, decoder / decoder.norm()), f"latent {other}"


def _illusion(
    context: Context,
    edits: Sequence[Edit],
    groups: Sequence[Sequence[Change]],
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    partners: Sequence[int] | None,
) -> Illusion | None:
    """The check where one direction's projection is changed at one place and there are prompts to exchange."""
    if len(edits) != 1 or len(groups[0]) != 1 or edits[0].kind != "direction" or edits[0].operation == "add":
        return None
    positions = edits[0].positions if isinstance(edits[0].positions, tuple) else (-1,)
    if len(prompts) < 2 or metric.kind == "loss":
        return None
    (change,) = groups[0]
    assert change.read is not None
    partners = partners or [(index + 1) % len(prompts) for index in range(len(prompts))]
    return exchanged(context, change.hook, change.read, prompts, metric, positions, partners)
