"""Why a latent fires on a token: what it reads, taken apart into what earlier parts of the model wrote.

An encoder is linear up to its activation function, so what that is given is a sum over the parts below plus a
constant: over the heads of one layer for a dictionary of their outputs side by side (Kissane et al. 2406.17759), over
all earlier heads and MLPs for one of the residual stream, and likewise for a transcoder, the norm before the MLP being
held (Dunefsky et al. 2406.11944).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tools.workbench.components import Written, decompose, look_at_heads
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError
from tools.workbench.sites import point
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_scale, through_norm

RESIDUAL = {"hook_resid_pre": (0, False), "hook_resid_mid": (0, True), "hook_resid_post": (1, False)}  # layers, half


@dataclass(frozen=True, eq=False)
class Causes:
    """written: what each part adds to what one latent's activation function is given on one token (n = 1), of the
    layers from `first` on. constant: what it is given where nothing is read. given: what it was given, as the
    dictionary itself has it."""

    written: Written
    constant: float
    given: float
    first: int = 0

    @property
    def off(self) -> float:
        """By how much the parts miss it."""
        return abs(float(self.written.total) + self.constant - self.given)


def causes(subject: Subject, tokens: Tensor, position: int, latent: int, direction: Tensor | None = None) -> Causes:
    """Of a latent on one token of a text int64[1, s]. direction: [d], in place of the latent's encoder direction.
    ToolError for a dictionary of a place that is no sum of parts."""
    dictionary, hook = subject.dictionary, subject.hook
    layer, place = subject.layer_of(hook), hook.split(".", 2)[2]
    value = subject.residual(tokens)[:, position]
    encoder = dictionary.sae.W_enc[:, latent].detach().double() if direction is None else direction.double()
    given = float(dictionary.before_activation(value)[0, latent])
    constant = float(dictionary.before_activation(torch.zeros_like(value))[0, latent])
    if place == "attn.hook_z":
        return Causes(_of_heads(subject, tokens, position, layer, encoder), constant, given, layer)
    if place in RESIDUAL:
        more, half = RESIDUAL[place]
        return Causes(decompose(subject, tokens, encoder[None], layer + more, half, position)[0], constant, given)
    block = subject.model.blocks[layer]
    middle = subject.value_at(point(subject, "resid_mid", layer), tokens)[:, position]
    with torch.no_grad():
        normed, bias = (block.ln2(each[:, None])[:, 0] for each in (middle, torch.zeros_like(middle)))
    if not torch.allclose(normed, value, rtol=1e-3, atol=1e-3 * float(value.abs().max())):
        raise ToolError(
            f"{hook} is not the residual stream, heads' outputs side by side or the normed input of an MLP: what its "
            "latents read cannot be taken apart."
        )
    folded = through_norm(subject, encoder, block.ln2) / norm_scale(subject, middle, block.ln2)
    written, _ = decompose(subject, tokens, folded[None], layer, True, position)
    return Causes(written, constant + float(bias[0].double() @ encoder), given)


def _of_heads(subject: Subject, tokens: Tensor, position: int, layer: int, encoder: Tensor) -> Written:
    """What the heads of one layer add; there is nothing else."""
    nothing = torch.zeros(1, 1, dtype=torch.float64, device=subject.device)
    heads = nothing.new_zeros(1, 1, subject.n_heads)
    sources = nothing.new_zeros(1, 1, subject.n_heads, tokens.shape[1])
    readout = encoder.reshape(1, subject.n_heads, subject.d_head)
    subject.logits(tokens, also=look_at_heads(subject, layer, readout, heads[:, 0], sources[:, 0], position))
    return Written(nothing[:, 0], heads, sources, nothing, nothing)


def place_of(subject: Subject, tokens: Tensor, activations: Tensor, position: int | None) -> int:
    """The position told, or where activations [s] are highest. ToolError when there is no such token."""
    if position is None:
        if not bool((activations[1:] > 0).any()):
            raise ToolError("The latent does not fire on this text: give a position, or a text that it fires on.")
        return int(activations.argmax())
    if position >= tokens.shape[1]:
        raise ToolError(f"Position {position} does not exist: the text has {tokens.shape[1]} tokens, BOS included.")
    return position


def parts(found: Causes) -> tuple[list[str], Tensor]:
    """The names of all parts but the constant, and float64[parts]."""
    written = found.written
    _, layers, heads = written.heads.shape
    at = [found.first + layer for layer in range(layers)]
    names = ["embedding", *(f"L{layer}H{head}" for layer in at for head in range(heads))]
    names += [f"L{layer} {name}" for name in ("MLP", "attention bias") for layer in at]
    return names, torch.cat([written.embed, written.heads[0].flatten(), written.mlps[0], written.biases[0]])


def kinds(found: Causes) -> tuple[Named, ...]:
    """The parts together, by kind."""
    written = found.written
    sums: dict[str, Tensor | float] = {
        "constant": found.constant,
        "embedding": written.embed.sum(),
        "attention heads": written.heads.sum(),
        "MLPs": written.mlps.sum(),
        "attention biases": written.biases.sum(),
    }
    return tuple(Named(label=label, value=float(value)) for label, value in sums.items())


def by_source(subject: Subject, tokens: Tensor, found: Causes, n: int = 10) -> HeatMap:
    """The n strongest heads by the tokens that they read."""
    strength = found.written.heads[0]
    order = strength.abs().flatten().argsort(descending=True)[:n].tolist()
    heads = [divmod(index, strength.shape[1]) for index in order]
    values = torch.stack([found.written.sources[0, layer, head] for layer, head in heads])
    names = [f"L{found.first + layer}H{head}" for layer, head in heads]
    return HeatMap.of(names, subject.token_strings(tokens[0].tolist()), values)


def random_like(context: Context, latent: int) -> Tensor:
    """float64[d]: a random direction as long as a latent's encoder direction."""
    encoder = context.subject.dictionary.sae.W_enc[:, latent].detach().double()
    noise = torch.from_numpy(context.rng("causes", latent).standard_normal(len(encoder))).to(encoder)
    direction: Tensor = noise / noise.norm() * encoder.norm()
    return direction
