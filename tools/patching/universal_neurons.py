"""Which neurons of a layer another model has too."""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from store.errors import UserError
from tools.workbench import embedded
from tools.workbench.boot import boot
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import Named
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.sites import point
from tools.workbench.subject import Subject
from tools.workbench.vocabulary import excess_correlation

UNIVERSAL = 0.5  # excess correlation from which a neuron counts as shared
LOADING = 10  # seconds


class Input(ToolInput):
    """A layer, and the other model: a name that TransformerBridge boots or a folder, of the same tokens."""

    other: Annotated[str, Field(min_length=1, max_length=400)]
    layer: int = Field(ge=0)
    other_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field((), description="by default the layer at like depth")
    n: int = Field(12, ge=1, le=100)


class Controls(ToolOutput):
    """The mean highest correlation with the other model's neurons rotated at random, and the mean excess when its
    tokens are exchanged at random."""

    rotated: float
    permuted_excess: float


class Output(ToolOutput):
    """correlation, excess: mean over neurons of the highest correlation with one of the other's, and of that above the
    rotated; top: the neurons of greatest excess; universal: the share above one half."""

    correlation: float
    excess: float
    universal: float
    top: tuple[Named, ...]
    tokens: int
    controls: Controls
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the other model's loading, and a reading of the text by both up to the layer."""
    depth = (input.layer + 1) / context.subject.n_layers
    return LOADING + 2 * depth * context.subject.calibration_tokens.numel() * pace(context.subject).token


@tool(version=1, estimate=estimate)
def universal_neurons(input: Input, context: Context) -> Output:
    """Compares two models neuron by neuron: which activate on the same tokens, beyond what any rotation of them would?

    Excess correlation of Gurnee et al. 2401.12181: the highest Pearson correlation with a neuron of the other model
    less that with a random rotation of its neurons, on ordinary text.
    """
    subject = context.subject
    point(subject, "neuron", input.layer)
    other = _other(subject, input.other)
    layers = input.other_layers or (round(input.layer * (other.n_layers - 1) / max(1, subject.n_layers - 1)),)
    tokens = subject.calibration_tokens
    reads = [(subject, input.layer), *((other, layer) for layer in layers)]
    read = []
    for done, (model, layer) in enumerate(reads, 1):
        read.append(_neurons(model, layer, tokens))
        context.progress(done, len(reads) + 2)
    own, theirs = read[0], torch.cat(read[1:], dim=1)
    rng = context.rng("universal_neurons", *layers)
    highest, rotated, _ = excess_correlation(own, theirs, rng)
    context.progress(len(reads) + 1, len(reads) + 2)
    order = torch.from_numpy(rng.permutation(len(theirs)))
    mixed, mixed_rotated, _ = excess_correlation(own, theirs[order], rng)
    excess = highest - rotated
    best = excess.argsort(descending=True).tolist()[: input.n]
    top = tuple(Named(label=f"L{input.layer}N{i}", value=float(excess[i])) for i in best)
    controls = Controls(rotated=float(rotated.mean()), permuted_excess=float((mixed - mixed_rotated).mean()))
    universal = float((excess > UNIVERSAL).float().mean())
    verdict = (
        f"{universal:.1%} of {len(excess)} neurons of layer {input.layer} are shared with {other.name}: excess "
        f"correlation above {UNIVERSAL}; its mean is {float(excess.mean()):.3f} ({float(highest.mean()):.3f} against "
        f"{controls.rotated:.3f} with them rotated), with tokens exchanged {controls.permuted_excess:.3f}; most shared "
        f"is {top[0].label} ({top[0].value:.2f})"
    )
    return Output(
        correlation=float(highest.mean()),
        excess=float(excess.mean()),
        universal=universal,
        top=top,
        tokens=len(own),
        controls=controls,
        verdict=verdict,
    )


def _other(subject: Subject, name: str) -> Subject:
    """The other model, as precise and on the same device. ToolError when there is none or its tokens are others."""
    folder = embedded.model_folder() if name == embedded.NAME else name
    try:
        bridge = boot(name, folder, subject.device, subject.dtype)
    except UserError as error:
        raise ToolError(str(error)) from None
    other = Subject(Path(name).name, bridge, "blocks.0.hook_resid_pre", None)
    if other.tokenizer.get_vocab() != subject.tokenizer.get_vocab():
        raise ToolError(f"{other.name} has other tokens than {subject.name}: name a model with the same tokenizer.")
    return other


def _neurons(subject: Subject, layer: int, tokens: Tensor) -> Tensor:
    """float32[tokens, neurons]: activations, BOS left out."""
    return subject.value_at(point(subject, "neuron", layer), tokens)[:, 1:].flatten(0, 1).float()
