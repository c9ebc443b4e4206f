"""What a head writes when it reads a token, by its weights alone."""

import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.circuits import common_tokens, copying, embedded, logit_columns, ov
from tools.workbench.components import check_head, weights
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap
from tools.workbench.metrics import single_tokens
from tools.workbench.pictures import Picture, controls_said, draw
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

SHOWN = 8  # words that are read when none are named
COPIES, SUPPRESSES = 0.75, 0.25


class Input(ToolInput):
    """The head, and words that are one token each; by default some of ordinary text."""

    layer: int = Field(ge=0)
    head: int = Field(ge=0)
    words: tuple[str, ...] = Field((), max_length=40, description="with their leading space")
    n: int = Field(5, ge=1, le=50, description="promoted and suppressed tokens of each word")


class Reading(ToolOutput):
    """What the head writes on reading a word: the word's own rank of the whole vocabulary (1: raised most), and the
    tokens it raises and lowers most."""

    label: str
    own_rank: int
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


class Controls(ToolOutput):
    """copy_score of random weights of equal size (0.5 is chance), and the median over all heads."""

    random_weights: float
    median_head: float


class Output(ToolOutput):
    """copy_score: share of other tokens that a token read is raised above, mean over 256 tokens. place: of all heads by
    it, 1 the most copying. eigenvalues: sum of the circuit's eigenvalues over that of their sizes, 1 for a copy of all
    it reads and -1 for its opposite. scores: of every head. effects: of each word read (rows) on the words' logits
    (columns), in standard deviations over the vocabulary."""

    copy_score: float
    place: int
    heads: int
    eigenvalues: float
    readings: tuple[Reading, ...]
    scores: HeatMap
    effects: HeatMap
    controls: Controls
    vocabulary: int
    pictures: tuple[str, ...]
    verdict: str


@tool(version=2)
def ov_circuit(input: Input, context: Context) -> Output:
    """Tells what a head's OV circuit makes of a token: does reading it raise (copy) or lower (suppress) the same token?

    By weights alone: embedding with the first MLP, the head's norm, W_V, W_O, final gain, unembedding. It says what the
    head would write, not where it attends: head_profile tells that.
    """
    subject = context.subject
    check_head(subject, input.layer, input.head)
    tokens = common_tokens(subject)
    scores = copying(subject, tokens, context.stage("reading what heads copy"))
    score = float(scores[input.layer, input.head])
    place = 1 + int((scores > score).sum())
    words = single_tokens(subject, input.words) if input.words else tokens[:SHOWN].tolist()
    names = subject.token_strings(words)
    effects = _effects(subject, input.layer, input.head, torch.tensor(words))
    readings = tuple(
        _reading(subject, word, name, effect, input.n) for word, name, effect in zip(words, names, effects, strict=True)
    )
    among = (effects[:, words] - effects.mean(1, keepdim=True)) / effects.std(1, keepdim=True)
    matrix = HeatMap.of(names, names, among)
    x, columns = embedded(subject, tokens), logit_columns(subject, tokens)
    controls = Controls(random_weights=_random(context, x, columns), median_head=float(scores.median()))
    eigenvalues = _eigenvalues(subject, input.layer, input.head, x, columns)
    does = "copies" if score > COPIES else "suppresses" if score < SUPPRESSES else "neither copies nor suppresses"
    verdict = (
        f"L{input.layer}H{input.head} {does} what it reads: its own token stands above {score:.2f} of the others "
        f"(random weights {controls.random_weights:.2f}, the median head {controls.median_head:.2f}), place {place} of "
        f"{scores.numel()} heads; eigenvalues {eigenvalues:+z.2f}. "
        + "; ".join(f"{r.label!r} own rank {r.own_rank:,}, raises {r.promoted[0]!r}" for r in readings[:3])
    )
    title = f"L{input.layer}H{input.head}, OV circuit by weights alone"
    foot = controls_said(controls)
    return Output(
        copy_score=score,
        place=place,
        heads=scores.numel(),
        eigenvalues=eigenvalues,
        readings=readings,
        scores=HeatMap.by_head(scores),
        effects=matrix,
        controls=controls,
        vocabulary=effects.shape[1],
        pictures=draw(
            context,
            "ov_circuit",
            input,
            words=Picture(
                f"{title}: what reading a word (rows) adds to the logits of words (columns)",
                matrix,
                "standard deviations over the vocabulary",
                f"Own token above {score:.2f} of the others. {foot}",
            ),
            heads=Picture(
                "Copy score of every head: above 0 it raises the token that it reads, below it lowers it",
                HeatMap.by_head(scores - 0.5),
                "share of tokens that the own one stands above, less 0.5 (chance)",
                f"{foot[:-1]} (with the 0.5).",
            ),
        ),
        verdict=verdict,
    )


def _effects(subject: Subject, layer: int, head: int, tokens: Tensor) -> Tensor:
    """float32[n, vocabulary]: what the head adds to each logit on reading each token, up to the norm's scale."""
    written = ov(subject, layer, embedded(subject, tokens))[head]
    return written @ logit_columns(subject, torch.arange(int(subject.model.cfg.d_vocab)))


def _reading(subject: Subject, token: int, name: str, effect: Tensor, n: int) -> Reading:
    order = effect.argsort(descending=True).tolist()
    return Reading(
        label=name,
        own_rank=1 + int((effect > effect[token]).sum()),
        promoted=tuple(subject.token_strings(order[:n])),
        suppressed=tuple(subject.token_strings(order[: -n - 1 : -1])),
    )


def _eigenvalues(subject: Subject, layer: int, head: int, x: Tensor, columns: Tensor) -> float:
    """Sum of eigenvalues over sum of their sizes, of the circuit between the tokens of x [n, d_model]."""
    own = weights(subject, layer)
    with torch.no_grad():
        read = subject.model.blocks[layer].ln1(x[:, None].to(subject.dtype))[:, 0].float() @ own.v[head]  # [n, d_head]
    values = torch.linalg.eigvals((own.o[head] @ (columns - columns.mean(1, keepdim=True)) @ read).cpu())
    return float(values.real.sum() / values.abs().sum())


def _random(context: Context, x: Tensor, columns: Tensor) -> float:
    """The copy score of a random OV circuit."""
    seed = int(context.rng("ov_circuit").integers(2**31))
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(x.shape[1], x.shape[1], generator=generator).to(x)
    effect = x @ matrix @ columns
    own = effect.diagonal()[:, None]
    return float((effect < own).float().sum(1).mean() / (len(x) - 1))
