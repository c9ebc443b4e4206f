"""What kind of neuron a neuron is, if any, by what it does to the vocabulary and to the final norm."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.components import neuron_weights
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import Named
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.unembed import random_direction
from tools.workbench.vocabulary import (
    Ablated,
    LastLayer,
    frequency_correlation,
    log_frequencies,
    logit_variance,
    moments,
    unembedding,
    unread,
)

RANDOMS = 6  # neurons, and directions, drawn at random
UNREAD = 4.0  # times chance
NORM_SHARE = 0.15  # of the effect on the loss
FREQUENCY = 0.3  # correlation
PEAKED = 10.0  # kurtosis
WINDOWS = 2000  # of the harvest, for token frequencies


class Input(ToolInput):
    """The neurons of a layer; by default the last layer's that stand out."""

    layer: int | None = Field(None, ge=0, description="by default the last")
    neurons: tuple[int, ...] = Field((), max_length=40)
    n: int = Field(4, ge=1, le=20, description="neurons told for each kind when none are named")
    tokens: int = Field(8, ge=1, le=50, description="promoted and suppressed tokens")


class NeuronScores(ToolOutput):
    """A neuron, by its output weight w and the unembedding U, the final norm's gain folded in.

    kind: entropy, token frequency, prediction (raises a few tokens), suppression (lowers a few), or none. unread:
    share of w's norm in the directions that U reads least. logit_variance: of cos(w, U_v) over tokens v. frequency:
    correlation of U w with log token frequency. variance, skew, kurtosis: of U w (3: normal). loss, entropy,
    norm_share: mean ablation's mean size of change of the loss and mean change of the entropy, nats a token, and what
    share of the former goes through the final norm's scale; None for a layer but the last, where others stand between.
    """

    label: str
    kind: str
    norm: float
    unread: float
    logit_variance: float
    frequency: float
    variance: float
    skew: float
    kurtosis: float
    loss: float | None
    entropy: float | None
    norm_share: float | None
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


class Controls(ToolOutput):
    """unread_by_chance: of a random direction. frequency_median: size over the layer; frequency_permuted: the highest
    with token frequencies exchanged at random. kurtosis: the highest of random directions. norm_share: the largest size
    of random neurons."""

    unread_by_chance: float
    frequency_median: float
    frequency_permuted: float
    kurtosis: float
    norm_share: float | None


class Output(ToolOutput):
    """The neurons told, how many of the layer's are far above chance in what the unembedding hardly reads, and what the
    token frequencies are from."""

    layer: int
    neurons: tuple[NeuronScores, ...]
    hardly_read: tuple[Named, ...]
    above_five_times_chance: int
    frequencies_of: str
    controls: Controls
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: weights cost as much as some 400 tokens; in the last layer the text as 1,200, a neuron's softmaxes as
    190."""
    subject = context.subject
    neurons = RANDOMS + (len(input.neurons) or 3 * input.n)
    ablated = 1200 + 190 * neurons if input.layer in (None, subject.n_layers - 1) else 0
    return (400 + ablated) * pace(subject).token


@tool(version=2, estimate=estimate)
def neuron_profile(input: Input, context: Context) -> Output:
    """Says what kind of neuron a neuron is: entropy, token frequency, prediction, suppression, or none of them.

    Entropy neurons write where the unembedding hardly reads and act through the final norm (2406.16254); the rest is
    read off the effect on the vocabulary (2401.12181). Name neurons, or let those that stand out be found.
    """
    subject = context.subject
    layer = subject.n_layers - 1 if input.layer is None else input.layer
    weights, u = neuron_weights(subject, layer), unembedding(subject)
    for neuron in input.neurons:
        if not 0 <= neuron < len(weights):
            raise ToolError(f"Neuron {neuron} does not exist: layer {layer} has neurons 0 to {len(weights) - 1}.")
    rng = context.rng("neuron_profile", layer)
    tokens, logs, named = _frequencies(context)
    shares, frequency = unread(weights, u), frequency_correlation(weights, u, tokens, logs)
    permuted = frequency_correlation(weights, u, tokens, logs[torch.from_numpy(rng.permutation(len(logs)))])
    variance = logit_variance(weights, u)
    last = LastLayer(subject, u) if layer == subject.n_layers - 1 else None
    told = list(input.neurons) or _outstanding(weights, shares, frequency, input.n)
    drawn = [int(i) for i in rng.choice(len(weights), RANDOMS, replace=False)]
    randoms = [abs(last.ablate(i).norm_share) for i in drawn] if last else None
    directions = [moments(random_direction(subject, seed) @ u.columns) for seed in range(RANDOMS)]
    controls = Controls(
        unread_by_chance=u.chance,
        frequency_median=float(frequency.abs().median()),
        frequency_permuted=float(permuted.abs().max()),
        kurtosis=max(each.kurtosis for each in directions),
        norm_share=max(randoms) if randoms else None,
    )
    found = []
    for done, i in enumerate(told):
        effect = weights[i] @ u.columns
        own = moments(effect)
        ablated = last.ablate(i) if last else None
        order = effect.argsort(descending=True).tolist()
        found.append(
            NeuronScores(
                label=f"L{layer}N{i}",
                kind=_kind(float(shares[i]), float(frequency[i]), own.skew, own.kurtosis, ablated, controls),
                norm=float(weights[i].norm()),
                unread=float(shares[i]),
                logit_variance=float(variance[i]),
                frequency=float(frequency[i]),
                variance=own.variance,
                skew=own.skew,
                kurtosis=own.kurtosis,
                loss=ablated.loss if ablated else None,
                entropy=ablated.entropy if ablated else None,
                norm_share=ablated.norm_share if ablated else None,
                promoted=tuple(subject.token_strings(order[: input.tokens])),
                suppressed=tuple(subject.token_strings(order[: -input.tokens - 1 : -1])),
            )
        )
        context.progress(done + 1, len(told))
    hardly = shares.argsort(descending=True)[:12].tolist()
    above = int((shares >= 5 * u.chance).sum())
    verdict = (
        f"of {len(weights)} neurons of layer {layer}, {above} have five times chance ({u.chance:.2f}) of their norm "
        "where the unembedding hardly reads; "
        + "; ".join(_told(each) for each in found)
        + f". Controls: token frequencies exchanged at most {controls.frequency_permuted:.2f}"
        + ("" if controls.norm_share is None else f", random neurons' norm share at most {controls.norm_share:.2f}")
        + ("" if last else ". The norm's share is measured in the last layer alone")
    )
    return Output(
        layer=layer,
        neurons=tuple(found),
        hardly_read=tuple(Named(label=f"L{layer}N{i}", value=float(shares[i])) for i in hardly),
        above_five_times_chance=above,
        frequencies_of=named,
        controls=controls,
        verdict=verdict,
    )


def _outstanding(weights: Tensor, shares: Tensor, frequency: Tensor, n: int) -> list[int]:
    """The neurons that write most where the unembedding hardly reads, those that follow token frequency most, and the
    longest."""
    orders = [each.argsort(descending=True).tolist()[:n] for each in (shares, frequency.abs(), weights.norm(dim=1))]
    return list(dict.fromkeys(i for order in orders for i in order))


def _kind(
    share: float, frequency: float, skew: float, kurtosis: float, ablated: Ablated | None, controls: Controls
) -> str:
    through_norm = ablated is None or ablated.norm_share >= max(NORM_SHARE, controls.norm_share or 0)
    if share >= UNREAD * controls.unread_by_chance and through_norm:
        return "entropy"
    if abs(frequency) >= max(FREQUENCY, controls.frequency_permuted):
        return "token frequency"
    if kurtosis >= max(PEAKED, controls.kurtosis):
        return "prediction" if skew > 0 else "suppression"
    return "none"


def _told(each: NeuronScores) -> str:
    share = "" if each.norm_share is None else f", norm's share {each.norm_share:.2f}"
    return (
        f"{each.label} {each.kind} (unread {each.unread:.2f}{share}, frequency {each.frequency:+z.2f}, kurtosis "
        f"{each.kurtosis:.1f}, raises {each.promoted[0]!r})"
    )


def _frequencies(context: Context) -> tuple[Tensor, Tensor, str]:
    """Tokens that occur, their log counts, and where: in the harvest, or else in the calibration text."""
    if context.harvest is not None:
        windows: list[np.ndarray] = [
            window.tokens for window in context.harvest.windows(range(min(WINDOWS, context.harvest.n_windows)))
        ]
        return *log_frequencies(windows), f"the harvest of {context.harvest.header['corpus']}"
    return *log_frequencies(list(context.subject.calibration_tokens.cpu().numpy())), "calibration text of 2,048 tokens"
