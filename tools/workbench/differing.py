"""Two models read the same text: how their next-token distributions, residual streams and latents differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.beside import both, by_chance
from tools.workbench.context import Context
from tools.workbench.resume import hooked
from tools.workbench.subject import Subject
from tools.workbench.words import spelled
from tools.workbench.writing import Replied

SHUFFLES = 999
TOGETHER = 512  # tokens read at once: their logits, of three models, are 300 MB in float32


class Reading(NamedTuple):
    """log_probabilities: float32[b, s, vocabulary]. streams: float32[layers + 1, b, s, d_model], entering each layer
    and leaving the last. residual: [b, s, d_model] at the dictionary's hook point, None without a dictionary."""

    log_probabilities: Tensor
    streams: Tensor
    residual: Tensor | None


@dataclass
class Difference:
    """Of n texts, over the positions from which each reply was written.

    js, kl: float64[n], nats, mean over positions: the Jensen-Shannon divergence of the two next-token distributions,
    and that of the base model's from the model's. peak: the position where the former is greatest. change:
    float32[n, words], how much likelier the model finds each word. chance: float64[n], js of the base model with a
    scrambled change (None: there is none). layers: float64[layers + 1], how far the residual streams are apart, as a
    share of the base's length.
    """

    js: np.ndarray
    kl: np.ndarray
    peak: list[int]
    change: Tensor
    chance: np.ndarray | None
    layers: np.ndarray
    latents: "Firing | None" = None


@dataclass
class Firing:
    """Of every latent, over the texts. rates: float64[n, latents] for the model, the base model and, unless there is
    none, the scrambled change: the share of a text's positions on which it fires.

    products, squares: float64[latents], sums for latent scaling (see `scaling`).
    """

    rates: tuple[np.ndarray, np.ndarray, np.ndarray | None]
    own: np.ndarray
    base: np.ndarray
    squares: np.ndarray


def differing(context: Context, texts: Sequence[Replied], latents: bool, salt: object) -> Difference:
    """What the two models make of the same texts."""
    words = spelled(context.subject)
    scrambled = by_chance(context, salt)
    n = len(texts)
    js, kl = np.zeros(n), np.zeros(n)
    chance = None if scrambled is None else np.zeros(n)
    peak, change = [0] * n, torch.zeros(n, len(words.names))
    layers = np.zeros((n, context.subject.n_layers + 1))
    counting = _Counting(context, n, scrambled is not None) if latents else None

    def read(batch: Tensor) -> Callable[[Subject], Reading]:
        return lambda model: _read(model, batch, latents)

    done = 0
    for rows, batch in _padded(context.subject, texts):
        context.progress(done, n)
        done += len(rows)
        own, base = both(context, read(batch))
        assert base is not None, "the caller has looked for a base model"
        third = scrambled(read(batch)) if scrambled else None
        for place, row in enumerate(rows):
            span = slice(texts[row].places.start, texts[row].places.stop)
            mine, theirs = own.log_probabilities[place, span], base.log_probabilities[place, span]
            apart = divergence(mine, theirs)
            js[row], peak[row] = float(apart.mean()), span.start + int(apart.argmax())
            kl[row] = float((mine.exp() * (mine - theirs)).sum(-1).mean())
            change[row] = words.mass(mine.exp() - theirs.exp()).mean(0).cpu()
            layers[row] = _apart(own.streams[:, place, span], base.streams[:, place, span])
            if third is not None and chance is not None:
                chance[row] = float(divergence(third.log_probabilities[place, span], theirs).mean())
            if counting is not None:
                counting.add(row, [None if each is None else _part(each, place, span) for each in (own, base, third)])
    return Difference(js, kl, peak, change, chance, layers.mean(0), counting.found if counting else None)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """float32[s]: Jensen-Shannon divergence (Lin 1991), nats, of log-probabilities [s, vocabulary]; at most ln 2."""
    middle = torch.where(one == other, one, torch.logaddexp(one, other) - np.log(2))  # equal: 0 to the last bit
    halves = [(each.exp() * (each - middle)).sum(-1) for each in (one, other)]
    found: Tensor = ((halves[0] + halves[1]) / 2).clamp(min=0)
    return found


def standing_out(values: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The mean of the chosen (bool[n]) less that of the others, and how often chance gives as much: by permutation."""
    if chosen.all() or not chosen.any():
        return float(values.mean()), 1.0
    order = np.argsort(rng.random((SHUFFLES, len(values))), axis=1)
    mixed = values[order]
    k = int(chosen.sum())
    null = mixed[:, :k].mean(1) - mixed[:, k:].mean(1)
    contrast = float(values[chosen].mean() - values[~chosen].mean())
    return contrast, float((1 + (null >= contrast - 1e-12).sum()) / (1 + SHUFFLES))


def scaling(firing: Firing) -> np.ndarray:
    """float64[latents]: nu, the base's scale of each latent as a share of the model's (latent scaling, Minder et al.
    2504.02922): near 1 where the base model has the latent's direction whenever the model fires it, near 0 where only
    the model has; nan where it never fires or the model's own scale is not above 0.

    The scale of a model is the beta that minimises the sum over positions of |beta f d - y|^2, f being the tuned
    model's activation, d the decoder direction and y what the rest of the dictionary leaves unexplained in that model.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where((firing.squares > 0) & (firing.own > 0), firing.base / firing.own, np.nan)
    return found


class _Counting:
    """Adds up what latents do, text by text."""

    def __init__(self, context: Context, n: int, third: bool) -> None:
        self.dictionary, self.subject = context.subject.dictionary, context.subject
        size = self.dictionary.n_latents
        rates = [np.zeros((n, size)) for _ in range(2 + third)]
        self.found = Firing((rates[0], rates[1], rates[2] if third else None), *(np.zeros(size) for _ in range(3)))

    def add(self, row: int, residuals: Sequence[Tensor | None]) -> None:
        """residuals: [s, d_model] of the model, the base model and the scrambled change, without the text's first
        token."""
        encoded = []
        for rates, residual in zip(self.found.rates, residuals, strict=True):
            if rates is None or residual is None:
                continue
            fires = self.dictionary.encode(residual)
            fires[self.subject.sinks(residual[None], start=1)[0]] = 0
            rates[row] = (fires > 0).double().mean(0).cpu().numpy()
            encoded.append((residual, fires))
        own, base = encoded[:2]
        f = own[1].double()
        self.found.squares += f.square().sum(0).cpu().numpy()
        self.found.own += self._along(f, *own)
        self.found.base += self._along(f, *base)

    def _along(self, f: Tensor, residual: Tensor, fires: Tensor) -> np.ndarray:
        """float64[latents]: sum over positions of f d.y, y being the error with the latent's own part put back."""
        decoder = self.dictionary.decoder.double()
        error = residual.double() - self.dictionary.reconstruct(residual).double()
        left = error @ decoder.T + fires.double() * decoder.square().sum(1)
        found: np.ndarray = (f * left).sum(0).cpu().numpy()
        return found


def _padded(subject: Subject, texts: Sequence[Replied]) -> Iterator[tuple[list[int], Tensor]]:
    """(rows, int64[b, s]) of texts of like length together, padded on the right: no token sees what comes after it."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].tokens))
    while order:
        rows = [order.pop(0)]
        while order and (len(rows) + 1) * len(texts[order[0]].tokens) <= TOGETHER:
            rows.append(order.pop(0))
        batch = torch.full((len(rows), len(texts[rows[-1]].tokens)), subject.bos)
        for place, row in enumerate(rows):
            batch[place, : len(texts[row].tokens)] = torch.tensor(texts[row].tokens)
        yield rows, batch


def _read(model: Subject, batch: Tensor, latents: bool) -> Reading:
    caught: list[Tensor] = []
    points = [*model.residual_points, model.end]
    with torch.no_grad(), hooked(model, [(point, lambda value: caught.append(value.float())) for point in points]):
        logits = model.model(batch.to(model.device), return_type="logits")
    residual = model.residual(batch) if latents else None
    return Reading(logits.float().log_softmax(-1), torch.stack(caught), residual)


def _part(reading: Reading, place: int, span: slice) -> Tensor:
    assert reading.residual is not None
    return reading.residual[place, span]


def _apart(own: Tensor, base: Tensor) -> np.ndarray:
    """float64[layers + 1] of [layers + 1, s, d_model]."""
    found: np.ndarray = ((own - base).norm(dim=-1) / base.norm(dim=-1)).double().mean(1).cpu().numpy()
    return found
