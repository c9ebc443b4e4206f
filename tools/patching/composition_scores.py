"""Which heads read what a head writes, and whose output it reads, by the weights alone."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.circuits import Factors, composition, reads, writes
from tools.workbench.components import check_head
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap, Named
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool

Way = Literal["q", "k", "v"]
WAYS: tuple[Way, ...] = ("q", "k", "v")


class Input(ToolInput):
    """The head, and whether it is the one that reads (from earlier heads) or that writes (to later ones)."""

    layer: int = Field(ge=0)
    head: int = Field(ge=0)
    role: Literal["reader", "writer"] = "reader"
    n: int = Field(10, ge=1, le=100)


class Controls(ToolOutput):
    """The same with a random rotation between writer and reader: expected is its root mean square, 1 / sqrt(d_model);
    mean and highest are of one rotation over the same heads."""

    expected: float
    mean: float
    highest: float


class Output(ToolOutput):
    """Composition by query, key and value with each other head, and the strongest."""

    top: tuple[Named, ...]
    q: HeatMap
    k: HeatMap
    v: HeatMap
    controls: Controls
    verdict: str


@tool(version=1)
def composition_scores(input: Input, context: Context) -> Output:
    """Measures how strongly heads are wired together: |W_A W_B| / (|W_A| |W_B|) for query, key and value composition.

    An induction head reads a previous-token head by its keys. Weights alone: confirm a wire with path patching.
    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; the norm's gain is folded in.
    """
    subject = context.subject
    check_head(subject, input.layer, input.head)
    reader = input.role == "reader"
    layers = range(input.layer) if reader else range(input.layer + 1, subject.n_layers)
    heads = [(layer, head) for layer in layers for head in range(subject.n_heads)]
    if not heads:
        raise ToolError(
            f"No head comes {'before' if reader else 'after'} layer {input.layer}: name another layer or role."
        )
    turn = _rotation(context, subject.d_model)
    found, rotated = torch.zeros(2, len(WAYS), len(heads))
    for way, which in enumerate(WAYS):
        own = reads(subject, input.layer, input.head, which) if reader else writes(subject, input.layer, input.head)
        for i, (layer, head) in enumerate(heads):
            other = writes(subject, layer, head) if reader else reads(subject, layer, head, which)
            a, b = (other, own) if reader else (own, other)
            found[way, i] = composition(a, b)
            rotated[way, i] = composition(Factors(a.left, a.right @ turn.to(a.right)), b)
            context.progress(way * len(heads) + i + 1, found.numel())
    order = found.flatten().argsort(descending=True).tolist()[: input.n]
    arrow = "from" if reader else "to"
    top = tuple(
        Named(label=f"{WAYS[way]} {arrow} L{heads[i][0]}H{heads[i][1]}", value=float(found[way, i]))
        for way, i in (divmod(index, len(heads)) for index in order)
    )
    controls = Controls(expected=subject.d_model**-0.5, mean=float(rotated.mean()), highest=float(rotated.max()))
    maps = {
        which: HeatMap.by_head(found[way].reshape(-1, subject.n_heads), layers[0]) for way, which in enumerate(WAYS)
    }
    verdict = (
        f"L{input.layer}H{input.head} {'reads' if reader else 'writes'} most {top[0].label} ({top[0].value:.3f})"
        + "".join(f", then {each.label} ({each.value:.3f})" for each in top[1:3])
        + f"; rotated at random the mean is {controls.mean:.3f} and the highest of {found.numel()} is "
        f"{controls.highest:.3f}: {int((found > controls.highest).sum())} wires stand above it"
    )
    return Output(top=top, controls=controls, verdict=verdict, **maps)


def _rotation(context: Context, d: int) -> Tensor:
    """[d, d]: a random rotation."""
    generator = torch.Generator().manual_seed(int(context.rng("composition").integers(2**31)))
    turn: Tensor = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    return turn
