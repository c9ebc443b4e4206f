"""The directions along which latents are planted: orthonormal, random but for those of the latents that write.

A writer's direction starts where its words stand out most among all tokens of the vocabulary, in what the direction
does to the logits when nothing between reads it. A few steps of gradient ascent then turn it to what the later layers
make of it, so that steering promotes the words and not those like them.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tools.organisms.planted.latents import planted
from tools.organisms.planted.noun import Kind, Planted
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_gain

SEED = 7
THINNED = 4  # every fourth token of the vocabulary tells its covariance
RIDGE = 0.01  # of the mean variance
STEPS, STEP = 3, 0.35  # of ascent, each by that share of the direction's length
NEAR = 0.25  # weight of the words that are to be left alone
PROMPTS = (
    "He went to the",
    "She saw a",
    "There was one",
    "We have the",
    "My",
    "It is the",
    "They like",
    "A photo of a",
)

Words = tuple[list[int], list[int]]  # tokens promoted, tokens left alone


def directions(subject: Subject, strength: float) -> Tensor:
    """float32[n_latents, d_model] on the CPU, rows orthonormal. `strength`: norm at which writers are to promote."""
    rows = torch.randn(len(planted()), subject.d_model, generator=torch.Generator().manual_seed(SEED))
    writers = [index for index, latent in enumerate(planted()) if latent.kind is Kind.WRITES]
    words = [_words(subject, planted()[index]) for index in writers]
    rows[writers] = ascended(subject, standing_out(subject, words), words, strength).cpu()
    order = [*writers, *(index for index in range(len(rows)) if index not in writers)]
    basis, triangle = torch.linalg.qr(rows[order].T)
    ordered = torch.empty_like(rows)
    ordered[order] = (basis * triangle.diagonal().sign()).T
    return ordered


def single_tokens(subject: Subject, words: tuple[str, ...]) -> dict[str, int]:
    """Each word that is one token with a space before it, and that token."""
    ids = subject.tokenize([f" {word}" for word in words])
    return {word: token[0] for word, token in zip(words, ids, strict=True) if len(token) == 1}


def standing_out(subject: Subject, words: list[Words]) -> Tensor:
    """[k, d_model], norm 1: for each list the direction whose mean direct effect on its words is highest over the
    standard deviation of its effect on the vocabulary.

    That is C^-1 m, C being the covariance of the unembedding's columns, the final norm's gain folded in, and m their
    mean over the words (linear discriminant analysis, Fisher 1936).
    """
    effects = norm_gain(subject)[:, None] * subject.model.unembed.W_U.float()  # [d_model, vocabulary]
    mean = effects.mean(dim=1, keepdim=True)
    thinned = effects[:, ::THINNED] - mean
    covariance = thinned @ thinned.T / thinned.shape[1]
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), device=covariance.device)
    means = torch.stack([(effects[:, promoted] - mean).mean(dim=1) for promoted, _ in words], dim=1)
    return normalize(torch.linalg.solve(covariance, means).T, dim=1)


def ascended(subject: Subject, start: Tensor, words: list[Words], strength: float) -> Tensor:
    """[k, d_model], norm 1: `start` after a few steps that raise the words' log-probability when `strength` times the
    direction is added to the last token of short prompts, and the other words' less."""
    ids = [[subject.bos, *tokens] for tokens in subject.tokenize(PROMPTS)]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids] * len(start), device=subject.device)
    row = torch.arange(len(tokens), device=subject.device)
    last = torch.tensor([len(each) - 1 for each in ids] * len(start), device=subject.device)
    unit = start
    for _ in range(STEPS):
        free = unit.clone().requires_grad_(True)
        push = strength * normalize(free, dim=1).repeat_interleave(len(ids), dim=0)

        def add(value: Tensor, hook: object, push: Tensor = push) -> Tensor:
            return value.index_put((row, last), push.to(value), accumulate=True)

        logits = subject.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(subject.hook, add)])
        ends = logits[row, last].float().log_softmax(-1).reshape(len(start), len(ids), -1).mean(dim=1)
        gain = torch.stack(
            [end[promoted].mean() - NEAR * end[near].mean() for end, (promoted, near) in zip(ends, words, strict=True)]
        )
        (slope,) = torch.autograd.grad(gain.sum(), free)
        unit = normalize(unit + STEP * normalize(slope, dim=1), dim=1).detach()
    return unit


def _words(subject: Subject, latent: Planted) -> Words:
    promoted, near = (list(single_tokens(subject, side).values()) for side in (latent.frames, latent.near))
    return promoted, near
