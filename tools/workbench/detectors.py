"""What heads do on prompts made to show it: attention to the earlier token that a kind of head attends to.

Every score is [layers, heads], the mean attention that the head pays to a key; its baseline is the attention to a key
drawn at random. Sources: Elhage et al. 2021 and Olsson et al. 2209.11895 (induction, previous token: repeated random
tokens), Xiao et al. 2309.17453 (sinks), Wang et al. 2211.00593 (name movers), McDougall et al. 2310.04625 (copy
suppression).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.workbench.circuits import common_tokens
from tools.workbench.components import decompose
from tools.workbench.pairs import Batch
from tools.workbench.sites import point, read
from tools.workbench.subject import Splice, Subject
from tools.workbench.unembed import norm_scale, readout

ROWS, LENGTH = 4, 40  # repeated random tokens: rows, and tokens before they repeat

Head = tuple[int, int]  # layer and head


@dataclass(frozen=True, eq=False)
class Attention:
    """float32[layers, heads] each: the attention paid to a key, and to another drawn at random."""

    paid: Tensor
    baseline: Tensor


def repeated(subject: Subject, seed: int = 0) -> Tensor:
    """int64[ROWS, 1 + 2 * LENGTH]: BOS, then random tokens of ordinary text, twice."""
    tokens = common_tokens(subject, ROWS * LENGTH, seed)
    once = tokens[torch.arange(ROWS * LENGTH) % len(tokens)].reshape(ROWS, LENGTH)
    return torch.cat([torch.full((ROWS, 1), subject.bos), once, once], dim=1)


def attended(
    subject: Subject, tokens: Tensor, keys: dict[str, Tensor], rng: np.random.Generator
) -> dict[str, Attention]:
    """Attention by kind. keys: int64[s], the key that a head of that kind attends to at each position, or -1."""
    length = tokens.shape[1]
    paid = {kind: torch.zeros(subject.n_layers, subject.n_heads) for kind in keys}
    chance = {kind: torch.zeros(subject.n_layers, subject.n_heads) for kind in keys}
    drawn = {kind: _others(key, rng) for kind, key in keys.items()}

    def look(layer: int) -> Splice:
        def see(value: Tensor) -> None:
            pattern = read(subject, "pattern", value).float().mean(0).cpu()  # [heads, s, s]
            for kind, key in keys.items():
                at = torch.arange(length)[key >= 0]
                paid[kind][layer] = pattern[:, at, key[at]].mean(-1)
                chance[kind][layer] = pattern[:, at, drawn[kind][at]].mean(-1)

        return point(subject, "pattern", layer), see

    subject.logits(tokens, also=[look(layer) for layer in range(subject.n_layers)], last=True)
    return {kind: Attention(paid[kind], chance[kind]) for kind in keys}


def on_repeats(subject: Subject, rng: np.random.Generator) -> dict[str, Attention]:
    """Induction, previous token, duplicate token and sink scores on random tokens that repeat.

    Induction and duplicate: at the second occurrence, to the token after the first and to the first itself.
    """
    position = torch.arange(1 + 2 * LENGTH)
    again = position > LENGTH
    keys = {
        "induction": torch.where(again, position - LENGTH + 1, -1),
        "previous token": torch.where(position > 1, position - 1, -1),
        "duplicate token": torch.where(again, position - LENGTH, -1),
        "sink": torch.where(position > 1, 0, -1),
    }
    return attended(subject, repeated(subject), keys, rng)


@dataclass(frozen=True, eq=False)
class Name:
    """One of the two names in the prompts of indirect object identification, [layers, heads]: attention paid to it from
    the end, and what the head itself adds to its logit relative to the mean over the vocabulary."""

    attention: Attention
    added: Tensor


def on_names(subject: Subject, batch: Batch, rng: np.random.Generator) -> dict[str, Name]:
    """The indirect object (the pairs' answer, role IO) and the subject (their other answer, roles S1 and S2)."""
    keys = {}
    for place, role in batch.roles.items():
        keys[role] = torch.full((batch.clean.shape[1],), -1)
        keys[role][-1] = place
    seen = attended(subject, batch.clean, keys, rng)
    direction, _ = readout(subject, torch.cat([batch.answer, batch.other]))
    last: list[Tensor] = []
    both = torch.cat([batch.clean, batch.clean])
    written, _ = decompose(subject, both, direction, also=[(subject.end, lambda value: last.append(value[:, -1:]))])
    added = written.over(norm_scale(subject, last[0])[:, 0]).heads.float().cpu()
    n = len(batch.clean)
    subjects = seen["S1"], seen["S2"]
    twice = Attention(sum(s.paid for s in subjects), sum(s.baseline for s in subjects))  # type: ignore[arg-type]
    return {"IO": Name(seen["IO"], added[:n].mean(0)), "S": Name(twice, added[n:].mean(0))}


def loss_on_repeats(subject: Subject, ablated: Sequence[Head] = (), seed: int = 0) -> np.ndarray:
    """float64[ROWS]: cross-entropy of the second occurrence of random tokens, nats a token, with heads' outputs set to
    zero."""
    tokens = repeated(subject, seed).to(subject.device)
    by_layer: dict[int, list[int]] = {}
    for layer, head in ablated:
        by_layer.setdefault(layer, []).append(head)

    def without(layer: int, heads: list[int]) -> Splice:
        def put(value: Tensor) -> Tensor:
            value = value.clone()
            value[:, :, heads] = 0
            return value

        return point(subject, "z", layer), put

    logits = subject.logits(tokens, also=[without(layer, heads) for layer, heads in by_layer.items()])
    own = logits[:, LENGTH:-1].float().log_softmax(-1)  # the first repeated token cannot be foreseen
    losses = -own.gather(-1, tokens[:, LENGTH + 1 :, None])[..., 0][:, 1:]
    found: np.ndarray = losses.double().mean(1).cpu().numpy()
    return found


def _others(key: Tensor, rng: np.random.Generator) -> Tensor:
    """For each position with a key, another one that it could attend to, neither the first nor itself."""
    found = key.clone()
    for position in torch.arange(len(key))[key >= 0].tolist():
        choices = [other for other in range(1, position) if other != int(key[position])]
        found[position] = int(rng.choice(choices)) if choices else int(key[position])
    return found
