"""What a saved probe says of each token of a text."""

import numpy as np
import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.directions import LATENTS, Direction
from tools.workbench.metrics import Texts, encode
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces


class Input(ToolInput):
    """The name of a saved probe or direction, and texts. layer: the one it must be of, if you mean to be sure."""

    probe: str = Field(min_length=4)
    texts: Texts
    layer: int | None = Field(None, ge=0)
    chat: bool = False


class Read(ToolOutput):
    """scores: of each token, log-odds of the positive class; of a direction that is no classifier the projection beyond
    the middle between the classes; 0 on attention sinks. activations: the same, what is below 0 left out."""

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    activations: tuple[float, ...]
    last: float = Field(description="of the last token")
    mean: float = Field(description="over tokens")


class Output(ToolOutput):
    """The texts by token. positive: the share of tokens above 0; random: of nine random directions, turned and centred
    alike on these texts, the largest correlation of scores with the probe's."""

    hook: str
    method: str
    classifier: bool
    readings: tuple[Read, ...]
    positive: float
    random: float
    verdict: str


@tool(version=1)
def apply_probe(input: Input, context: Context) -> Output:
    """Reads texts by a saved probe, token by token: where does the model hold what the probe was trained on?

    The probe was trained at certain tokens and says most there. It belongs to one model and one layer.
    """
    subject = context.subject
    found = probe_of(context, input.probe, input.layer)
    prompts = encode(subject, input.texts, input.chat)
    reads, values = [], []
    vector = found.vector.to(subject.device).double()
    for ids in prompts:
        x, sinks = activations_at(subject, found, torch.tensor([ids]))
        scores = torch.where(sinks, 0.0, scores_of(found, x @ vector)).cpu()
        values.append(x[~sinks].cpu().numpy())
        told = [float(score) for score in scores]
        reads.append(
            Read(
                tokens=tuple(pieces(subject, ids[1:])),
                scores=tuple(told),
                activations=tuple(max(0.0, score) for score in told),
                last=told[-1],
                mean=float(np.mean(told)),
            )
        )
    every = np.concatenate(values)
    own = every @ found.vector.double().numpy()
    rng = context.rng("apply_probe", input.model_dump_json())
    random = max(abs(_correlation(own, every @ rng.normal(size=every.shape[1]))) for _ in range(9))
    share = float(np.mean([score > 0 for read in reads for score in read.scores]))
    first = reads[0]
    strongest = first.tokens[int(np.argmax(first.scores))]
    return Output(
        hook=found.hook,
        method=found.method,
        classifier=found.slope != 0,
        readings=tuple(reads),
        positive=share,
        random=random,
        verdict=(
            f"{share:.0%} of {sum(len(read.tokens) for read in reads):,} tokens are on the positive side; in the first "
            f"text most of all {strongest!r} ({max(first.scores):+.3g}), the last {first.last:+.3g}; scores along "
            f"a random direction correlate with the probe's by {random:.2f} at most"
        ),
    )


def probe_of(context: Context, name: str, layer: int | None) -> Direction:
    """The saved probe. ToolError when it is of another model, layer or dictionary."""
    subject, found = context.subject, context.directions.load(name)
    if found.model != subject.name:
        raise ToolError(f"The probe {name!r} is of {found.model}, not of {subject.name}: train one there.")
    if layer is not None and layer != subject.layer_of(found.hook):
        raise ToolError(f"The probe {name!r} reads layer {subject.layer_of(found.hook)}, not {layer}: train one there.")
    if found.hook.endswith(LATENTS):
        hook, width = found.hook.removesuffix(LATENTS), len(found.vector)
        if (hook, width) != (subject.hook, subject.dictionary.n_latents):
            raise ToolError(f"The probe {name!r} is of another dictionary's latents, on {hook}: train one on this one.")
    return found


def activations_at(subject: Subject, found: Direction, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float64[s - 1, d] where the probe reads, BOS left out, and which tokens are sinks bool[s - 1]."""
    hook, layer = found.hook.removesuffix(LATENTS), subject.layer_of(found.hook)
    value = subject.value_at(hook, tokens)[0, 1:].flatten(1)
    stream = subject.value_at(f"blocks.{layer}.hook_resid_pre", tokens)
    sinks = subject.sinks(stream, subject.layer_norms[layer])[0, 1:]
    if found.hook.endswith(LATENTS):
        value = subject.dictionary.encode(value)
    return value.double(), sinks


def scores_of(found: Direction, projections: torch.Tensor) -> torch.Tensor:
    """Log-odds of a classifier, else the projection beyond the centre."""
    return (found.slope or 1.0) * (projections - found.centre)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 0.0
