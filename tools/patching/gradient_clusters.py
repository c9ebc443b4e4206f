"""Which tokens the model predicts by one and the same mechanism: behaviours worth explaining."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import HeatMap
from tools.workbench.metrics import alike, encode
from tools.workbench.quanta import clusters, cosines, exchanged, loss_gradients, separation
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

BEFORE = 24  # tokens before each, when they are drawn from a corpus
WINDOWS = 24  # of the harvest that tokens are drawn from
SHOWN = 5  # examples of a cluster
TAIL = 12  # tokens of an example's end


class Input(ToolInput):
    """Texts, each for its last token; or none, and tokens are drawn from the harvest that the model predicts well."""

    texts: tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...] = Field((), max_length=400)
    clusters: int = Field(8, ge=2, le=40)
    tokens: int = Field(100, ge=4, le=400, description="how many to draw when no texts are given")
    most_loss: float = Field(0.5, gt=0, le=20, description="nats: tokens predicted worse are not drawn")


class Cluster(ToolOutput):
    """Tokens whose gradients are alike: mean cosine among them (None for one alone) and with all others, their mean
    loss, and the ends of some of the texts, the most typical first."""

    label: str
    size: int
    within: float | None
    between: float
    loss: float
    examples: tuple[str, ...]


class Controls(ToolOutput):
    """exchanged: the separation that the same clustering finds when each matrix's gradients are exchanged between
    tokens at random."""

    exchanged: float


class Output(ToolOutput):
    """clusters, the largest first. separation: mean cosine within clusters less that between them. labels: each text's
    cluster. map: mean cosine between clusters."""

    clusters: tuple[Cluster, ...]
    separation: float
    labels: tuple[int, ...]
    map: HeatMap
    controls: Controls
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: a forward and a backward pass over every token's context, and one over four times as many to draw
    from."""
    own = pace(context.subject)
    return own.start * (2 * len(input.texts) or 10) + own.token * BEFORE * (4 * len(input.texts) or 8 * input.tokens)


@tool(version=1, estimate=estimate)
def gradient_clusters(input: Input, context: Context) -> Output:
    """Finds groups of tokens that the model predicts by the same mechanism, by the direction of their loss gradients.

    A place to look for behaviours nobody named (2303.13506): explain a cluster next with patching or a head profile.
    Spectral clustering; the number of clusters is yours, so read the cosines within and between.
    """
    subject = context.subject
    prompts = encode(subject, input.texts) if input.texts else _drawn(context, input.tokens, input.most_loss)
    if len(prompts) <= input.clusters:
        raise ToolError(f"There are {len(prompts)} tokens, fewer than {input.clusters} clusters need: ask for fewer.")
    if min(map(len, prompts)) < 3:
        raise ToolError("A text has a single token, which nothing comes before: give at least two tokens.")
    sketches, losses = _sketched(context, prompts)
    similarity = cosines(sketches)
    labels = clusters(similarity, input.clusters, context.seed)
    apart = separation(similarity, labels)
    mixed = cosines(exchanged(sketches, context.rng("gradient_clusters", len(prompts))))
    chance = separation(mixed, clusters(mixed, input.clusters, context.seed))
    between = _between(similarity, labels, input.clusters)
    found = tuple(_cluster(subject, prompts, losses, similarity, labels, c) for c in range(input.clusters))
    names = [each.label for each in found]
    verdict = (
        f"{len(prompts)} tokens in {input.clusters} clusters: mean cosine within them is {apart:.3f} above that "
        f"between them, {chance:.3f} with gradients exchanged at random: "
        + ("clusters beyond chance" if apart > 2 * max(chance, 0.01) else "no clusters beyond chance")
        + "; "
        + "; ".join(f"{each.label} ({each.size}): {each.examples[0]!r}" for each in found[:4])
    )
    return Output(
        clusters=found,
        separation=apart,
        labels=tuple(int(label) for label in labels),
        map=HeatMap.of(names, names, between),
        controls=Controls(exchanged=chance),
        verdict=verdict,
    )


def _sketched(context: Context, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Sketches [n, any] and losses [n] of each prompt's last token."""
    sketches, losses = [torch.empty(0)] * len(prompts), torch.zeros(len(prompts))
    done = 0
    for indices, tokens in alike(prompts):
        found, losses[indices] = loss_gradients(context.subject, tokens, context.seed)
        for index, row in zip(indices, found, strict=True):
            sketches[index] = row
        done += len(indices)
        context.progress(done, len(prompts))
    return torch.stack(sketches), losses


def _drawn(context: Context, n: int, most: float) -> list[list[int]]:
    """Contexts of BEFORE tokens, BOS in front, and the token after them, that the model predicts with little loss."""
    subject = context.subject
    rng = context.rng("gradient_clusters", n, most)
    if context.harvest is None:
        rows = [row[1:] for row in subject.calibration_tokens.cpu().numpy()]
    else:
        chosen = sorted(int(i) for i in rng.permutation(context.harvest.n_windows)[:WINDOWS])
        rows = [window.tokens[1:] for window in context.harvest.windows(chosen)]
    pieces = [row[i : i + BEFORE + 1] for row in rows for i in range(0, len(row) - BEFORE, BEFORE // 4)]
    order = rng.permutation(len(pieces))[: 4 * n]
    candidates = [[subject.bos, *map(int, pieces[i])] for i in order]
    found: list[list[int]] = []
    for indices, tokens in alike(candidates):
        said = subject.logits(tokens[:, :-1], last=True)[:, -1].float().log_softmax(-1)
        loss = -said.gather(1, tokens[:, -1:].to(said.device))[:, 0]
        found += [candidates[i] for i, own in zip(indices, loss.tolist(), strict=True) if own < most]
        if len(found) >= n:
            break
    return found[:n]


def _between(similarity: Tensor, labels: np.ndarray, k: int) -> Tensor:
    """float[k, k]: mean cosine of two clusters' tokens, each with itself left out."""
    member = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), k).double()
    kept = similarity.double() - torch.eye(len(labels), dtype=torch.float64) * similarity.diagonal()
    sizes = member.sum(0)
    pairs = sizes[:, None] * sizes - torch.diag(sizes)
    return member.T @ kept @ member / pairs


def _cluster(
    subject: Subject, prompts: list[list[int]], losses: Tensor, similarity: Tensor, labels: np.ndarray, label: int
) -> Cluster:
    own = np.flatnonzero(labels == label)
    rest = np.flatnonzero(labels != label)
    among = similarity[own][:, own]
    typical = own[among.sum(1).argsort(descending=True).numpy()]
    n = len(own)
    return Cluster(
        label=f"cluster {label}",
        size=n,
        within=float((among.sum() - n) / (n * (n - 1))) if n > 1 else None,
        between=float(similarity[own][:, rest].mean()),
        loss=float(losses[own].mean()),
        examples=tuple(_spelled(subject, prompts[i]) for i in typical[:SHOWN]),
    )


def _spelled(subject: Subject, prompt: list[int]) -> str:
    """The end of a text, its last token marked."""
    *before, last = subject.token_strings(prompt[1:][-TAIL:])
    return f"{''.join(before)}<<{last}>>"
