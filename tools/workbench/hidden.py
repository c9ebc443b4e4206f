"""Words that a model's hidden states point to while it replies: by the token embeddings they resemble, and by the
latents that fire there and hardly anywhere else (Cywinski et al. 2510.01070)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.beside import has_base
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.lens import NAMED, OFFSETS
from tools.workbench.subject import Subject
from tools.workbench.unembed import direct_effect
from tools.workbench.words import Spelled, spelled
from tools.workbench.writing import Replied

PROMOTED = 5  # words of a latent
PROMPT = 60  # tokens, about, of a question in a conversation


def seconds(context: Context, prompts: int, respond: int) -> float:
    """Until so many prompts have been continued, and read by the model and its base."""
    now = pace(context.subject)
    readings = (1 + has_base(context)) * prompts * (now.start + now.token * (PROMPT + respond))
    return now.writing(prompts, PROMPT, respond) + readings


def resemblance(subject: Subject, residual: Tensor, words: Spelled) -> Tensor:
    """float32[s, words]: the cosine between a residual stream [s, d_model] and each word's embedding, that of its
    spelling which is nearest. The embeddings' mean is taken off them: they all lie on one side of the origin."""
    table = subject.model.original_model.get_input_embeddings().weight.detach().float()
    centred = torch.nn.functional.normalize(table - table.mean(0), dim=1)
    cosines = torch.nn.functional.normalize(residual.float(), dim=-1) @ centred.T
    found = torch.full((len(cosines), len(words.names) + 1), -1.0, device=cosines.device)
    of = words.of.to(cosines.device).expand(len(cosines), -1)
    return found.scatter_reduce_(1, of, cosines, "amax")[:, :-1].cpu()


def embedded(subject: Subject, replies: Sequence[Replied], layer: int) -> Tensor:
    """float32[n, words]: the mean of `resemblance` over the positions of each reply, at the residual stream that enters
    the layer; -1 for words that the text has near any of them."""
    words = spelled(subject)
    rows = []
    for replied in replies:
        state = subject.value_at(f"blocks.{layer}.hook_resid_pre", torch.tensor([replied.tokens]))[0]
        found = resemblance(subject, state[replied.places.start : replied.places.stop], words).mean(0)
        near = {replied.tokens[p + o] for p in replied.places for o in OFFSETS.values() if p + o >= 0}
        own = [int(words.of[token]) for token in near]
        found[[word for word in own if word < len(found)]] = -1
        rows.append(found)
    return torch.stack(rows)


def resembling(values: Tensor, words: Spelled, kept: Sequence[int] | None = None) -> dict[str, float]:
    """The few words of greatest cosine among [words], each counted as one."""
    pool = range(len(values)) if kept is None else kept
    best = sorted(pool, key=lambda word: -float(values[word]))[:NAMED] if kept else values.topk(NAMED).indices.tolist()
    return {words.names[word]: 1.0 for word in best if values[word] > 0}


class Density(NamedTuple):
    """density: float64[n_latents], the share of tokens of ordinary text on which each latent fires, at least one over
    their number; of: what text that was."""

    density: np.ndarray
    of: str


def densities(context: Context) -> Density:
    """By the harvest, or by the calibration text where there is none."""
    if context.harvest is not None:
        stats = context.harvest.stats()
        n = int(context.harvest.n_tokens)
        return Density(np.maximum(stats.density, 1 / (n + 1)), f"the harvest's {n:,} tokens")
    subject = context.subject
    fired = torch.zeros(subject.dictionary.n_latents, dtype=torch.float64)
    n = 0
    for row in subject.calibration_tokens:
        activations = subject.activations(row[None])[0]
        fired += (activations > 0).sum(0).cpu()
        n += len(row) - 1
    return Density(np.maximum(fired.numpy() / n, 1 / (n + 1)), f"{n:,} tokens of plain text")


def tf_idf(mean: np.ndarray, density: np.ndarray) -> np.ndarray:
    """float64[n_latents]: mean activation * log(1 / density), so that a latent which fires everywhere scores 0."""
    score: np.ndarray = np.asarray(mean, np.float64) * np.log(1 / np.clip(density, 1e-12, 1))
    return score


def mean_activations(subject: Subject, replied: Replied) -> np.ndarray:
    """float64[n_latents]: over the positions from which the reply was written, sinks at 0."""
    activations = subject.activations(torch.tensor([replied.tokens]))[0, replied.places.start : replied.places.stop]
    mean: np.ndarray = activations.double().mean(0).cpu().numpy()
    return mean


def promoted(subject: Subject, latent: int, words: Spelled) -> list[str]:
    """The words that a latent's direction makes likeliest, by its direct effect on their likeliest spelling."""
    effect = direct_effect(subject, subject.dictionary.decoder[latent]).cpu()
    best = torch.full((len(words.names) + 1,), -torch.inf).scatter_reduce_(0, words.of, effect, "amax")[:-1]
    return [words.names[word] for word in best.topk(PROMOTED).indices.tolist()]
