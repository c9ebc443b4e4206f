"""The parts that add up to the residual stream, and the weights by which heads read and write it.

How to use it: `weights(subject, layer)` are a layer's heads, each query head with the key head it uses. `decompose`
runs prompts once and tells what each part writes along a direction of one's own: the embedding, every head (and of it,
what comes from each token it reads), attention's bias and every MLP. The parts of the layers below a place add up to
the residual stream there, so what reads that place linearly is explained by them (Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits"; by source token: Chughtai et al. 2402.07321).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tools.workbench.registry import ToolError
from tools.workbench.sites import point, read
from tools.workbench.subject import Splice, Subject


class Weights(NamedTuple):
    """float32, a row of x at a time: q, k, v: [heads, d_model, d_head]; o: [heads, d_head, d_model]."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def weights(subject: Subject, layer: int) -> Weights:
    """A layer's heads. With grouped-query attention consecutive query heads share a key head (Ainslie et al.
    2305.13245), so its weights are repeated. ToolError for a layer or heads that this model does not have."""
    point(subject, "z", layer)
    attention = subject.model.blocks[layer].attn
    try:
        q, k, v, o = (getattr(attention, name).detach().float() for name in ("W_Q", "W_K", "W_V", "W_O"))
    except (AttributeError, NotImplementedError):
        raise ToolError(f"{subject.name} does not keep the weights of its attention heads apart.") from None
    return Weights(q, spread(subject, k), spread(subject, v), o)


def spread(subject: Subject, by_key_head: Tensor, axis: int = 0) -> Tensor:
    """The same with an entry for each query head along `axis`: 0, 0, 0, 1, 1, 1, ... where three share one."""
    return by_key_head.repeat_interleave(subject.n_heads // by_key_head.shape[axis], axis)


def check_head(subject: Subject, layer: int, head: int) -> None:
    """ToolError unless the model has this head."""
    point(subject, "z", layer)
    if not 0 <= head < subject.n_heads:
        raise ToolError(f"Head {head} does not exist: {subject.name} has heads 0 to {subject.n_heads - 1}.")


@dataclass(frozen=True, eq=False)
class Written:
    """What the parts write at one position along a direction, for n prompts of s tokens, float64.

    embed: [n]. heads: [n, layers, heads], from each head's own output. sources: [n, layers, heads, s], the same by the
    token that is read. biases, mlps: [n, layers]: attention's output bias, and the MLP with its own.
    """

    embed: Tensor
    heads: Tensor
    sources: Tensor
    biases: Tensor
    mlps: Tensor

    @property
    def total(self) -> Tensor:
        """float64[n]: the residual stream along the direction."""
        return self.embed + self.heads.flatten(1).sum(1) + self.biases.sum(1) + self.mlps.sum(1)

    def over(self, scale: Tensor) -> "Written":
        """The same, each prompt's divided by its scale [n]."""
        parts = (self.embed, self.heads, self.sources, self.biases, self.mlps)
        return Written(*((part.movedim(0, -1) / scale).movedim(-1, 0) for part in parts))


def look_at_heads(
    subject: Subject, layer: int, readout: Tensor, heads: Tensor, sources: Tensor, position: int = -1
) -> list[Splice]:
    """Looks that fill `heads` [n, heads] with the heads' outputs z at a position times `readout` [n, heads, d_head],
    and `sources` [n, heads, s] with the same by the token that is read: the pattern times the values."""
    seen: list[Tensor] = []

    def v(value: Tensor) -> None:
        each = spread(subject, read(subject, "v", value), 2).double()
        seen.append(torch.einsum("nshe,nhe->nhs", each, readout))

    def pattern(value: Tensor) -> None:
        sources.copy_(read(subject, "pattern", value)[:, :, position].double() * seen.pop())

    def z(value: Tensor) -> None:
        heads.copy_((read(subject, "z", value)[:, position].double() * readout).sum(-1))

    places = (point(subject, "v", layer), point(subject, "pattern", layer), point(subject, "z", layer))
    return list(zip(places, (v, pattern, z), strict=True))


def decompose(
    subject: Subject,
    tokens: Tensor,
    direction: Tensor,
    layers: int | None = None,
    half: bool = False,
    position: int = -1,
    also: Sequence[Splice] = (),
) -> tuple[Written, Tensor]:
    """What the parts of the first `layers` (None: all) write along `direction` [n, d_model], and the logits [n, s,
    vocabulary]. half: the attention of the next layer too. also: further looks at the same pass."""
    n_layers = subject.n_layers if layers is None else layers
    n, s = tokens.shape
    direction = direction.double().to(subject.device)
    size = (n, n_layers + half)
    embed = torch.zeros(n, dtype=torch.float64, device=subject.device)
    biases, mlps = embed.new_zeros(size), embed.new_zeros(size)
    heads = embed.new_zeros(*size, subject.n_heads)
    sources = embed.new_zeros(*size, subject.n_heads, s)

    def along(value: Tensor) -> Tensor:
        return (value[:, position].double() * direction).sum(-1)

    def embedding(value: Tensor) -> None:
        embed.copy_(along(value))

    def attention(layer: int) -> list[Splice]:
        outputs = torch.einsum("hed,nd->nhe", weights(subject, layer).o.double(), direction)

        def out(value: Tensor) -> None:
            biases[:, layer] = along(value) - heads[:, layer].sum(-1)

        looks = look_at_heads(subject, layer, outputs, heads[:, layer], sources[:, layer], position)
        return [*looks, (point(subject, "attn_out", layer), out)]

    def mlp(layer: int) -> Splice:
        def out(value: Tensor) -> None:
            mlps[:, layer] = along(value)

        return point(subject, "mlp_out", layer), out

    looks: list[Splice] = [(point(subject, "resid_pre", 0), embedding)]
    for layer in range(n_layers + half):
        looks += attention(layer)
        if layer < n_layers:
            looks.append(mlp(layer))
    logits = subject.logits(tokens, also=[*looks, *also])
    return Written(embed, heads, sources, biases, mlps), logits


def into_stream(subject: Subject, hook: str) -> Callable[[Tensor], Tensor] | None:
    """How a value of a hook point [..., d] gets into the residual stream [..., d_model]: as it is, or through W_O where
    it is all heads' outputs side by side, or the MLP's output weights; None where it does not get there linearly."""
    layer, place = subject.layer_of(hook), hook.split(".", 2)[2]
    if place in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"):
        return lambda value: value
    block = subject.model.blocks[layer]
    if place == "attn.hook_z" and not hasattr(block, "ln1_post"):
        out = weights(subject, layer).o.flatten(0, 1)
    elif place == "mlp.hook_post" and not hasattr(block, "ln2_post"):
        out = neuron_weights(subject, layer)
    else:
        return None
    return lambda value: value.to(out) @ out


def neuron_weights(subject: Subject, layer: int) -> Tensor:
    """float32[neurons, d_model]: what each neuron writes. ToolError where the layer has no single output matrix."""
    point(subject, "neuron", layer)
    weight = getattr(subject.model.blocks[layer].mlp, "W_out", None)
    if not isinstance(weight, Tensor) or weight.shape != (subject.d_mlp, subject.d_model):
        raise ToolError(f"The MLP of layer {layer} has no single output matrix: its neurons cannot be told apart.")
    return weight.detach().float()
