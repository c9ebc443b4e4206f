"""Which of the last layer's neurons make the model more or less sure of what it says next."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.components import neuron_weights
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.metrics import Texts, encode
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.vocabulary import LastLayer, frequency_correlation, log_frequencies, unembedding, unread

UNREAD = 4.0  # times chance: an entropy neuron
FREQUENCY = 0.3  # correlation: a token-frequency neuron


class Input(ToolInput):
    """Prompts, whose next token's confidence is looked at. n: candidates of each kind, and as many neurons at random;
    those named are measured as well."""

    prompts: Texts
    chat: bool = Field(False, description="each prompt is a user's message")
    neurons: tuple[Annotated[int, Field(ge=0)], ...] = Field((), max_length=40)
    n: int = Field(8, ge=1, le=40)


class Neuron(ToolOutput):
    """A neuron of the last layer: its kind (entropy, token frequency, named), what it writes where the unembedding
    hardly reads, its correlation with token frequency, its activation over prompts and on plain text. Set to the
    latter, it changes the entropy of the next token (nats) and the likeliest token's probability so, mean over prompts;
    on: the prompts on which the change of entropy is larger than that of every random neuron; norm_share: of the
    change of the loss, what goes through the final norm."""

    label: str
    kind: str
    unread: float
    frequency: float
    activation: float
    usual: float
    entropy: float
    probability: float
    norm_share: float
    on: int


class Reading(ToolOutput):
    """A prompt: the likeliest next token, its probability, the entropy, and the neuron that changes it most."""

    prompt: str
    token: str
    probability: float
    entropy: float
    neuron: str
    change: float


class Controls(ToolOutput):
    """Neurons of the layer at random: the largest size of their mean change of entropy and of probability."""

    entropy: float
    probability: float


class Output(ToolOutput):
    neurons: tuple[Neuron, ...]
    readings: tuple[Reading, ...]
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: a pass over each prompt, three softmaxes for each neuron on it."""
    now = pace(context.subject)
    neurons = 3 * input.n + len(input.neurons)
    return 800 * now.token + len(input.prompts) * (2 * now.start + now.token * (25 + neurons / 2))


@tool(version=1, estimate=estimate)
def uncertainty_neurons(input: Input, context: Context) -> Output:
    """Says which entropy and token-frequency neurons change how sure the model is of its next token on these prompts.

    Each is set to its mean on plain text, exactly, in the last layer; random neurons beside. An entropy neuron that
    makes the model less sure raises the norm and moves no token. neuron_profile tells what kind a neuron is.
    Source: Stolfo et al. 2406.16254.
    """
    subject = context.subject
    layer = subject.n_layers - 1
    weights, u = neuron_weights(subject, layer), unembedding(subject)
    shares = unread(weights, u)
    frequency = frequency_correlation(weights, u, *log_frequencies(list(subject.calibration_tokens.cpu().numpy())))
    kinds = _candidates(weights, shares, frequency, u.chance, input)
    rng = context.rng("uncertainty_neurons", input.model_dump_json())
    others = [int(i) for i in rng.permutation(len(weights)) if int(i) not in kinds][: max(8, input.n)]
    usual = LastLayer(subject, u).mean
    measured = [*kinds, *others]
    prompts = encode(subject, input.prompts, input.chat, room=1)
    entropy, probability, share, active = (np.zeros((len(prompts), len(measured))) for _ in range(4))
    readings = []
    for row, ids in enumerate(prompts):
        tokens = torch.tensor([ids], device=subject.device)
        logits = subject.logits(tokens)[0, -1].float()
        following = int(logits.argmax())
        last = LastLayer(subject, u, torch.tensor([[*ids, following]], device=subject.device), len(ids) - 1, usual)
        for column, neuron in enumerate(measured):
            found = last.ablate(neuron)
            entropy[row, column], probability[row, column] = found.entropy, found.probability
            share[row, column], active[row, column] = found.norm_share, float(last.activations[0, neuron])
        said = logits.double().softmax(-1)
        most = int(np.abs(entropy[row, : len(kinds)]).argmax())
        readings.append(
            Reading(
                prompt=input.prompts[row],
                token=subject.token_strings([following])[0],
                probability=float(said[following]),
                entropy=float(-(said * said.clamp(min=1e-300).log()).sum()),
                neuron=f"L{layer}N{measured[most]}",
                change=float(entropy[row, most]),
            )
        )
        context.progress(row + 1, len(prompts))
    beside = slice(len(kinds), None)
    highest = np.abs(entropy[:, beside]).max(1)
    neurons = [
        Neuron(
            label=f"L{layer}N{neuron}",
            kind=kind,
            unread=float(shares[neuron]),
            frequency=float(frequency[neuron]),
            activation=float(active[:, column].mean()),
            usual=float(usual[neuron]),
            entropy=float(entropy[:, column].mean()),
            probability=float(probability[:, column].mean()),
            norm_share=float(share[:, column].mean()),
            on=int((np.abs(entropy[:, column]) > highest).sum()),
        )
        for column, (neuron, kind) in enumerate(kinds.items())
    ]
    neurons.sort(key=lambda neuron: -abs(neuron.entropy))
    controls = Controls(
        entropy=float(np.abs(entropy[:, beside].mean(0)).max()),
        probability=float(np.abs(probability[:, beside].mean(0)).max()),
    )
    best = neurons[0]
    chance = _chance(best.on, len(prompts), len(others), len(kinds))
    clear = abs(best.entropy) > controls.entropy and chance < 0.05
    verdict = (
        f"{best.label} ({best.kind}) changes the entropy of the next token most, by {best.entropy:+.3f} nats when "
        f"set to its usual value, and its probability by {best.probability:+.3f}; random neurons change it by at most "
        f"{controls.entropy:.3f}; on {best.on} of {len(prompts)} prompts it does more than all {len(others)} of them "
        f"(p {chance:.2g}): {'clear' if clear else 'not clear'} of its controls"
    )
    bars = [Bar(f"{n.label}, {n.kind}", n.entropy) for n in neurons[:16]]
    bars += [
        Bar(f"L{layer}N{neuron}, random", float(entropy[:, len(kinds) + i].mean()), beside=True)
        for i, neuron in enumerate(others[:8])
    ]
    picture = Picture(
        f"Neurons of the last layer set to their usual value, {len(prompts)} prompts",
        Bars(tuple(bars)),
        "change of the next token's entropy, nats",
        controls_said(controls),
    )
    return Output(
        neurons=tuple(neurons),
        readings=tuple(readings),
        controls=controls,
        clear=clear,
        verdict=verdict,
        pictures=draw(context, "uncertainty_neurons", input, neurons=picture),
    )


def _candidates(weights: Tensor, shares: Tensor, frequency: Tensor, chance: float, input: Input) -> dict[int, str]:
    """Neurons by kind: the entropy neurons of the largest norm outside what is read, those that follow token frequency
    most, and those named."""
    found: dict[int, str] = {}
    for scores, bar, kind in (
        (shares, UNREAD * chance, "entropy"),
        (frequency.abs(), FREQUENCY, "token frequency"),
    ):
        order = scores.argsort(descending=True).tolist()[: input.n]
        found |= {int(i): kind for i in order if float(scores[i]) >= bar and i not in found}
    for neuron in input.neurons:
        if neuron >= len(weights):
            raise ToolError(f"Neuron {neuron} does not exist: the last layer has neurons 0 to {len(weights) - 1}.")
        found.setdefault(neuron, "named")
    if not found:
        raise ToolError("The last layer has no entropy or token-frequency neuron: name neurons to measure.")
    return found


def _chance(on: int, prompts: int, others: int, candidates: int) -> float:
    """The probability that a neuron like the random ones does more than all of them on so many prompts, for the best of
    the candidates (Bonferroni)."""
    from scipy.stats import binom

    return min(1.0, candidates * float(binom.sf(on - 1, prompts, 1 / (others + 1))))
