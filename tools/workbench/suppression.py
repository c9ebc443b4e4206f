"""How much of what a head does on ordinary text is copy suppression, by taking away everything else.

Copy-suppression-preserving ablation (McDougall et al. 2310.04625, section 3.3): of what a head writes, keep from each
token read the part along that token's own unembedding, where it lowers it (OV), and of the tokens read only those that
the model already foresees there (QK: the most likely twentieth by the logit lens); the rest is replaced by its mean.
The share of the head's effect that survives is 1 - KL(whole || kept) / KL(whole || nothing but the mean). As in their
code it is the direct effect: what the head writes is exchanged in the residual stream that the final norm reads.
Unlike there, words such as "the" may be foreseen too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tools.workbench.components import spread, weights
from tools.workbench.registry import ToolError
from tools.workbench.resume import Run
from tools.workbench.sites import point, read
from tools.workbench.subject import Subject
from tools.workbench.unembed import through_norm

ROWS, LENGTH = 4, 160  # of calibration text
FORESEEN = 0.05  # of the different tokens read
CHUNK = 32  # positions whose logits are held at once


class Preserved(NamedTuple):
    """Shares of the head's direct effect that survive, at most 1: by OV alone, by OV and QK, and by OV with the tokens'
    unembeddings exchanged at random. effect: KL(whole || mean-ablated), nats a token."""

    ov: float
    both: float
    permuted: float
    effect: float


def preserved(subject: Subject, layer: int, head: int, seed: int = 0) -> Preserved:
    """On calibration text. ToolError when ablating the head changes nothing that could be explained."""
    tokens = subject.calibration_tokens[:ROWS, :LENGTH]
    patterns: list[Tensor] = []
    values: list[Tensor] = []
    ends: list[Tensor] = []
    looks = [(point(subject, "v", layer), values.append), (point(subject, "pattern", layer), patterns.append)]
    run = Run(subject, tokens, [*looks, (subject.end, ends.append)])
    pattern = read(subject, "pattern", patterns[0])[:, head].float()  # [b, query, key]
    written = spread(subject, values[0], 2)[:, :, head].float() @ weights(subject, layer).o[head]  # [b, key, d_model]
    whole = pattern @ written
    reading = pattern.clone()
    reading[..., 0] = 0  # BOS is no token to suppress
    columns = through_norm(subject, subject.model.unembed.W_U.detach()[:, tokens].movedim(0, -1)).float()
    foreseen = _foreseen(subject, run.residuals[layer], tokens)
    order = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(seed)).to(tokens.device)
    own = _along(written, columns)
    kept = (reading @ own, reading * foreseen @ own, reading @ _along(written, columns[:, order]))

    def change(output: Tensor) -> float:
        moved = ends[0] + (output - whole).to(ends[0])
        parts = [
            _divergence(*(_logits(subject, each[:, i : i + CHUNK]) for each in (ends[0], moved)))
            for i in range(1, LENGTH, CHUNK)
        ]
        return float(torch.cat(parts, dim=1).mean())

    effect = change(_mean(whole).expand_as(whole))
    if effect < 1e-7:
        raise ToolError(f"Ablating L{layer}H{head} changes nothing on ordinary text: there is nothing to explain.")
    ov, both, permuted = (1 - change(part + _mean(whole - part)) / effect for part in kept)
    return Preserved(ov, both, permuted, effect)


def _logits(subject: Subject, residual: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = subject.model.unembed(subject.model.ln_final(residual))
    return found


def _mean(output: Tensor) -> Tensor:
    """[d_model]: over all positions of [b, s, d_model] but BOS."""
    mean: Tensor = output[:, 1:].mean((0, 1))
    return mean


def _along(written: Tensor, columns: Tensor) -> Tensor:
    """The part of each token's output along its own unembedding, where that is negative; both [b, s, d_model]."""
    unit = columns / columns.norm(dim=-1, keepdim=True)
    part: Tensor = (written * unit).sum(-1, keepdim=True).clamp(max=0) * unit
    return part


def _foreseen(subject: Subject, residual: Tensor, tokens: Tensor) -> Tensor:
    """bool[b, query, key]: whether the key's token is among the most likely twentieth, one at least, of the different
    earlier tokens to come next at the query, by the residual stream [b, s, d_model] read as it is."""
    with torch.no_grad():
        normed = subject.model.ln_final(residual)
    columns = subject.model.unembed.W_U.detach()[:, tokens]  # [d_model, b, s]
    said = torch.einsum("bqd,dbk->bqk", normed.float(), columns.float())
    length = tokens.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    earlier[:, 0] = False  # BOS
    again = (tokens[:, :, None] == tokens[:, None]).tril(-1).any(-1)  # a token counts where it is first read
    first = earlier & ~again[:, None]
    most = (FORESEEN * first.sum(-1, keepdim=True)).ceil().long().clamp(min=1)
    ranked = said.masked_fill(~first, -torch.inf).sort(-1, descending=True).values
    return (said >= ranked.gather(-1, most - 1)) & earlier


def _divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(before || after) [b, s], nats."""
    p, q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)
