"""What neurons do to the vocabulary and to the final norm, by their weights and on text.

Sources: Gurnee et al. 2401.12181 (moments of the effect on the vocabulary, excess correlation between models), Stolfo
et al. 2406.16254 (entropy neurons: weight in the directions that the unembedding hardly reads, logit variance, the
share of their effect that goes through the final norm; token-frequency neurons).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.components import neuron_weights
from tools.workbench.registry import ToolError
from tools.workbench.sites import point
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_scale, through_norm

HARDLY = 0.02  # of the unembedding's singular directions, the smallest
ROWS, LENGTH = 4, 256  # of calibration text; of fewer tokens the norm's share comes out smaller
TOGETHER = 128  # tokens whose logits are read at once
NEGLIGIBLE = 1e-3  # logits


class Moments(NamedTuple):
    """Of an effect over the vocabulary: variance, skewness (above 0: raises a few tokens), and kurtosis (3: normal)."""

    variance: float
    skew: float
    kurtosis: float


def moments(effect: Tensor) -> Moments:
    """Of [vocabulary]."""
    centred = effect.double() - effect.double().mean()
    variance = float(centred.square().mean())
    spread = max(variance, 1e-300) ** 0.5
    return Moments(variance, float((centred / spread).pow(3).mean()), float((centred / spread).pow(4).mean()))


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The unembedding with the final norm's gain folded in. columns: float32[d_model, vocabulary]; hardly: [d_model,
    k], the singular directions that it reads least."""

    columns: Tensor
    hardly: Tensor

    @property
    def chance(self) -> float:
        """The share of a random direction's norm that lies in `hardly`."""
        return float((self.hardly.shape[1] / self.hardly.shape[0]) ** 0.5)


def unembedding(subject: Subject) -> Unembedding:
    columns = through_norm(subject, subject.model.unembed.W_U.detach().T).T.float()
    centred = columns - columns.mean(1, keepdim=True)  # adding the same to every logit does nothing
    _, vectors = torch.linalg.eigh((centred @ centred.T).double())
    return Unembedding(columns, vectors[:, : max(1, round(HARDLY * subject.d_model))].float())


def logit_variance(weights: Tensor, unembedding: Unembedding) -> Tensor:
    """float32[n]: variance over the vocabulary of the cosine between what a neuron writes [n, d_model] and each token's
    unembedding: LogitVar of 2406.16254."""
    unit = unembedding.columns / unembedding.columns.norm(dim=0, keepdim=True).clamp(min=1e-12)
    return _variance(weights, unit) / weights.square().sum(1)


def unread(weights: Tensor, unembedding: Unembedding) -> Tensor:
    """float32[n]: the share of a neuron's norm that lies in the directions which the unembedding reads least."""
    share: Tensor = (weights @ unembedding.hardly).norm(dim=1) / weights.norm(dim=1)
    return share


def frequency_correlation(weights: Tensor, unembedding: Unembedding, tokens: Tensor, logs: Tensor) -> Tensor:
    """float32[n]: correlation over `tokens` int64[m] between a neuron's effect and the log frequency, `logs` [m]."""
    seen = unembedding.columns[:, tokens]
    centred = (logs - logs.mean()).to(seen)
    covariance = weights @ (seen @ centred) / len(tokens)
    return covariance / (_variance(weights, seen).sqrt() * centred.square().mean().sqrt())


def _variance(weights: Tensor, columns: Tensor) -> Tensor:
    """float32[n]: of weights [n, d] @ columns [d, m], over m, by the covariance [d, d]."""
    centred = columns - columns.mean(1, keepdim=True)
    variance: Tensor = ((weights @ (centred @ centred.T / columns.shape[1])) * weights).sum(1).clamp(min=0)
    return variance


class Ablated(NamedTuple):
    """A neuron set to its mean: mean size of the change of the loss, and the mean change of the entropy, nats a token;
    norm_share: of the former, what is gone when the final norm's scale is held. probability: mean change of that of
    the token that follows."""

    loss: float
    entropy: float
    norm_share: float
    probability: float


class LastLayer:
    """The last layer's neurons on a text: nothing but the final norm and the unembedding follows, so each is ablated
    exactly without the model.

    tokens: int64[b, s], by default calibration text; its positions from `first` to the last but one are read. mean:
    float32[neurons], what neurons are set to (None: their mean over these positions).
    """

    def __init__(
        self,
        subject: Subject,
        unembedding: Unembedding,
        tokens: Tensor | None = None,
        first: int = 1,
        mean: Tensor | None = None,
    ) -> None:
        layer = subject.n_layers - 1
        tokens = subject.calibration_tokens[:ROWS, :LENGTH] if tokens is None else tokens
        caught: list[Tensor] = []
        places = (point(subject, "neuron", layer), point(subject, "resid_post", layer))
        logits = subject.logits(tokens, also=[(place, caught.append) for place in places])[:, first:-1].flatten(0, 1)
        self.subject, self.weights, self.columns = subject, neuron_weights(subject, layer), unembedding.columns
        self.activations, self.residual = (each[:, first:-1].flatten(0, 1).float() for each in caught)
        self.mean = self.activations.mean(0) if mean is None else mean
        self.following = tokens[:, first + 1 :].flatten().to(logits.device)
        self.scale = self._scale(self.residual)
        raw = self.residual @ self.columns
        self.constant = (logits.float() - raw / self.scale).mean(0)  # of the last biases
        if float((logits.float() - raw / self.scale - self.constant).abs().max()) > NEGLIGIBLE * float(logits.std()):
            raise ToolError(f"The logits of {subject.name} are not those of its final norm and unembedding alone.")
        self.raw = raw
        self.before = self._read(lambda at: raw[at] / self.scale[at])

    def ablate(self, neuron: int) -> Ablated:
        """With the neuron at its mean."""
        change = (self.mean[neuron] - self.activations[:, neuron])[:, None]
        scale = self._scale(self.residual + change * self.weights[neuron])
        effect = self.weights[neuron] @ self.columns
        loss, entropy = self._read(lambda at: (self.raw[at] + change[at] * effect) / scale[at])
        held, _ = self._read(lambda at: (self.raw[at] + change[at] * effect) / self.scale[at])
        total = float((loss - self.before[0]).abs().mean())
        direct = float((held - self.before[0]).abs().mean())
        share = 1 - direct / total if total > 1e-9 else 0.0
        said = float(((-loss).exp() - (-self.before[0]).exp()).mean())
        return Ablated(total, float((entropy - self.before[1]).mean()), share, said)

    def _scale(self, residual: Tensor) -> Tensor:
        return norm_scale(self.subject, residual.to(self.subject.dtype)[None])[0, :, None].float()

    def _read(self, logits: Callable[[slice], Tensor]) -> tuple[Tensor, Tensor]:
        """Loss and entropy [n], nats, of the logits, asked for a few tokens at a time."""
        losses, entropies = [], []
        for begin in range(0, len(self.following), TOGETHER):
            at = slice(begin, begin + TOGETHER)
            said = (logits(at) + self.constant).log_softmax(-1)
            losses.append(-said.gather(1, self.following[at, None])[:, 0])
            entropies.append(-(said.exp() * said).sum(1))
        return torch.cat(losses), torch.cat(entropies)


def log_frequencies(windows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """The tokens that occur, int64[m], and the logarithm of how often, float32[m]; BOS, which begins each, aside."""
    tokens, counts = np.unique(np.concatenate([window[1:] for window in windows]), return_counts=True)
    return torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(np.log(counts)).float()


def excess_correlation(own: Tensor, other: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """float32[n] each: the highest correlation over tokens of each unit of `own` [tokens, n] with one of `other`
    [tokens, m], that with a random rotation of them, and which unit it is."""
    mixed = other @ torch.from_numpy(rng.standard_normal((other.shape[1], other.shape[1]))).to(other)
    a, b, c = (_standard(each) for each in (own, other, mixed))
    best = (a.T @ b / len(a)).max(1)
    return best.values, (a.T @ c / len(a)).amax(1), best.indices


def _standard(values: Tensor) -> Tensor:
    """[tokens, n] with mean 0 and variance 1; a unit that never changes is 0."""
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > 1e-9, centred / deviation.clamp(min=1e-9), 0)
