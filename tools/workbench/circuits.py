"""What heads do by their weights alone: the OV circuit, copying, succession, and who reads whom.

Norms before a head are applied to what it reads; biases are left out. Sources: Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits" (OV circuit, composition); McDougall et al. 2310.04625 (own-token rank); Gould et
al. 2312.09230 (succession). Both of these take a token to be its embedding with the first MLP's output.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tools.workbench.components import weights
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_gain, through_norm

COPIED = 256  # tokens that copying is measured on
SERIES: tuple[tuple[str, ...], ...] = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    (
        "January", "February", "March", "April", "May", "June", "July",
        "August", "September", "October", "November", "December",
    ),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
)  # fmt: skip


def embedded(subject: Subject, tokens: Tensor) -> Tensor:
    """[n, d_model]: each token's embedding and what the first MLP makes of it, no attention between."""
    x = subject.value_at(subject.residual_points[0], tokens[:, None])
    block = subject.model.blocks[0]
    with torch.no_grad():
        made: Tensor = x + block.mlp((block.ln2 if hasattr(block, "ln2") else block.ln1)(x))
    return made[:, 0]


def ov(subject: Subject, layer: int, x: Tensor) -> Tensor:
    """float32[heads, n, d_model]: what each head of the layer writes where it reads nothing but x [n, d_model]."""
    own = weights(subject, layer)
    with torch.no_grad():
        normed = subject.model.blocks[layer].ln1(x.to(subject.dtype)[:, None])[:, 0].float()
    written: Tensor = normed @ own.v @ own.o
    return written


def logit_columns(subject: Subject, tokens: Sequence[int] | Tensor) -> Tensor:
    """float32[d_model, n]: the directions of the residual stream that raise these tokens' logits, the final norm's gain
    folded in; not yet relative to the mean over the vocabulary."""
    columns = subject.model.unembed.W_U.detach()[:, torch.as_tensor(tokens)]
    return through_norm(subject, columns.T).T.float()


def common_tokens(subject: Subject, n: int = COPIED, seed: int = 0) -> Tensor:
    """int64[n]: different tokens of ordinary text, drawn at random."""
    seen = torch.tensor(sorted(set(subject.calibration_tokens[:, 1:].flatten().tolist())))
    return seen[torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed))[:n]]


def copying(
    subject: Subject, tokens: Tensor | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """float32[layers, heads]: the share of other tokens whose logit a head raises less than that of the token it reads,
    mean over tokens: 1 copies, 0 suppresses, 0.5 is chance."""
    tokens = common_tokens(subject) if tokens is None else tokens
    x, columns = embedded(subject, tokens), logit_columns(subject, tokens)
    found = []
    for layer in range(subject.n_layers):
        effect = ov(subject, layer, x) @ columns  # [heads, token read, token raised]
        own = effect.diagonal(dim1=1, dim2=2)[..., None]
        found.append((effect < own).float().sum(-1).mean(-1) / (len(tokens) - 1))
        progress(layer + 1, subject.n_layers)
    return torch.stack(found)


def succession(subject: Subject, step: int = 1) -> Tensor:
    """float32[layers, heads]: the share of members of ordered series (days, numbers, ...) on reading which a head
    raises the one `step` further on most of its series. 0 is copying."""
    series = [tokens for tokens in (_members(subject, words) for words in SERIES) if len(tokens) > 3]
    hits = torch.zeros(subject.n_layers, subject.n_heads)
    for tokens in series:
        x, columns = embedded(subject, tokens), logit_columns(subject, tokens)
        wanted = torch.arange(step, len(tokens), device=x.device)
        for layer in range(subject.n_layers):
            best = (ov(subject, layer, x[: len(wanted)]) @ columns).argmax(-1)  # [heads, token read]
            hits[layer] += (best == wanted).float().sum(-1).cpu()
    return hits / max(1, sum(len(tokens) - step for tokens in series))


def _members(subject: Subject, words: Sequence[str]) -> Tensor:
    """Those of a series that are one token after a space."""
    ids = subject.tokenize([f" {word}" for word in words])
    return torch.tensor([each[0] for each in ids if len(each) == 1], dtype=torch.long)


class Factors(NamedTuple):
    """A matrix [d_model, d_model] of rank d_head as left [d_model, d_head] @ right [d_head, d_model]."""

    left: Tensor
    right: Tensor


def reads(subject: Subject, layer: int, head: int, way: Literal["q", "k", "v"]) -> Factors:
    """What a head does with what it reads by one way: QK by its query or its key, OV by its value; the gain of the norm
    before it folded in."""
    own, gain = weights(subject, layer), norm_gain(subject, subject.model.blocks[layer].ln1)[:, None]
    first, second = {"q": (own.q, own.k), "k": (own.k, own.q), "v": (own.v, None)}[way]
    right = own.o[head] if second is None else (second[head] * gain).T
    return Factors(first[head] * gain, right)


def writes(subject: Subject, layer: int, head: int) -> Factors:
    """A head's OV circuit as what it writes, without the norm before it."""
    own = weights(subject, layer)
    return Factors(own.v[head], own.o[head])


def composition(writer: Factors, reader: Factors) -> float:
    """|W_A W_B| / (|W_A| |W_B|), Frobenius norms, x W_A W_B being what B makes of what A wrote; 1 / sqrt(d_model) in
    the root mean square where B is rotated at random."""
    between = writer.right @ reader.left
    return float(_norm(writer.left @ between, reader.right) / (_norm(*writer) * _norm(*reader)))


def _norm(left: Tensor, right: Tensor) -> Tensor:
    """|left @ right| by the two Gram matrices, which are small."""
    return ((left.T @ left) * (right @ right.T)).sum().clamp(min=0).sqrt()
