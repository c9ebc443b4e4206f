"""What kind of head a head is, if any: detectors with their baselines."""

import re
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from tools.workbench.circuits import copying, succession
from tools.workbench.components import check_head
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.detectors import Head, Name, loss_on_repeats, on_names, on_repeats
from tools.workbench.figures import HeatMap, Named
from tools.workbench.pairs import Contrast, aligned, batch
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.sitemap import labels
from tools.workbench.sites import point
from tools.workbench.subject import Subject
from tools.workbench.suppression import preserved

ATTENDS = 0.4  # mean attention from which a head is of a kind
SINKS = 0.8
MOVES = 0.2  # attention to a name, and logits added to it or taken from it
COPIES, SUPPRESSES = 0.75, 0.25  # share of tokens that the token read is raised above
SUCCEEDS = 0.6  # share of series members
CLEAR = 3.0  # times the baseline
ABLATED = 8
PAIRS = 8
DRAWN = 4  # heads whose attention is drawn


def _spelled(head: str) -> str:
    if not re.fullmatch(r"L?[0-9]+[.H][0-9]+", head):
        raise ValueError("spell a head by its layer and number, as in 18.6 or L18H6")
    return head


class Input(ToolInput):
    """The heads to tell about, as "layer.head"; by default every head that is of some kind."""

    heads: tuple[Annotated[str, Field(max_length=20), AfterValidator(_spelled)], ...] = Field(
        (), max_length=40, description="such as 18.6 or L18H6"
    )
    n: int = Field(20, ge=1, le=300, description="heads told one by one when none are named")
    ablate: bool = Field(True, description="measure what the strongest induction heads are worth")


class Kind(ToolOutput):
    """A detector: what its score is, from what score on a head is of this kind, the best head, its score and the one
    that stands for chance there, and how many pass."""

    label: str
    score: str
    threshold: float
    baseline: float
    best: str
    value: float
    passing: int


class HeadScores(ToolOutput):
    """A head, the kind it is most clearly of ("none" where no detector passes), every other kind that passes, and each
    detector's score."""

    label: str
    kind: str
    also: tuple[str, ...]
    scores: tuple[Named, ...]


class Preservation(ToolOutput):
    """How much of a head's direct effect on ordinary text is copy suppression (2310.04625): the share that survives
    when, of what it writes, only the lowering of the very tokens read is kept (by OV), and only where they are foreseen
    too (by OV and QK). permuted: by OV, tokens exchanged at random. effect: of the head, KL in nats a token."""

    label: str
    by_ov: float
    by_ov_and_qk: float
    permuted: float
    effect: float


class Ablation(ToolOutput):
    """Loss on repeated random tokens, nats a token: as it is, with the strongest induction heads set to zero, and with
    as many others of the same layers (the mean of three draws)."""

    heads: tuple[str, ...]
    loss: float
    without: float
    random: float


class Output(ToolOutput):
    """The kinds, the heads, and a map of layers x heads for each detector."""

    kinds: tuple[Kind, ...]
    heads: tuple[HeadScores, ...]
    none: int = Field(description="heads of the model that are of no kind")
    copy_suppression: tuple[Preservation, ...]
    ablation: Ablation | None
    maps: dict[str, HeatMap]
    pictures: tuple[str, ...]
    verdict: str


class Detector:
    """One kind of head. scores, baseline (by chance), passes: [layers, heads]."""

    def __init__(self, score: str, threshold: float, scores: Tensor, baseline: Tensor, passes: Tensor) -> None:
        self.score, self.threshold, self.scores, self.baseline, self.passes = score, threshold, scores, baseline, passes


def estimate(input: Input, context: Context) -> float:
    """Seconds: some twenty passes, and what weights alone tell, which costs as much as half of their tokens."""
    own = pace(context.subject)
    return 20 * own.start + (5000 if input.ablate else 3000) * own.token


@tool(version=2, estimate=estimate)
def head_profile(input: Input, context: Context) -> Output:
    """Says what kind of attention head a head is: induction, previous token, duplicate token, sink, name mover, copy
    suppression or succession, or none of them.

    Each score stands beside its baseline. A kind is what a head does on prompts made to show it, not all it does.
    """
    subject = context.subject
    named = tuple(_head(subject, name) for name in input.heads)
    detectors = detect(context)
    kinds = tuple(_kind(name, each) for name, each in detectors.items())
    clearness = torch.stack([torch.where(d.passes, d.scores / d.threshold, 0) for d in detectors.values()])
    clearness[list(detectors).index("sink")] *= 1e-3  # where a head goes when it has nothing to do: the last resort
    any_kind = clearness.amax(0)
    best = any_kind.flatten().argsort(descending=True).tolist()
    passing = [divmod(i, subject.n_heads) for i in best if any_kind.flatten()[i] > 0.01]
    heads = tuple(_scores(head, detectors, clearness) for head in named or passing[: input.n])
    suppressors = detectors["copy suppression"].passes
    told = [head for head in named or passing if suppressors[head]]
    preservation = tuple(_preservation(context, head, at, len(told)) for at, head in enumerate(told, 1))
    ablation = _ablation(context, detectors["induction"]) if input.ablate else None
    none = int((any_kind == 0).sum())
    verdict = (
        "; ".join(
            f"{kind.label}: {kind.passing} heads, best {kind.best} {kind.value:z.2f} (baseline {kind.baseline:z.2f})"
            if kind.passing
            else f"{kind.label}: none, best {kind.best} {kind.value:z.2f} of {kind.threshold:.2f} needed"
            for kind in kinds
        )
        + "".join(f". {each.label} is {' and '.join((each.kind, *each.also))}" for each in heads if named)
        + f". {none} of {subject.n_layers * subject.n_heads} heads are of no kind"
        + (
            f". Without {len(ablation.heads)} induction heads the loss on repeated tokens goes from "
            f"{ablation.loss:.2f} to {ablation.without:.2f}, without as many others of their layers to "
            f"{ablation.random:.2f}"
            if ablation
            else ""
        )
    )
    return Output(
        kinds=kinds,
        heads=heads,
        none=none,
        copy_suppression=preservation,
        ablation=ablation,
        maps={name: HeatMap.by_head(each.scores) for name, each in detectors.items()},
        pictures=draw(context, "head_profile", input, kinds=_drawn(kinds), **_patterns(context, heads)),
        verdict=verdict,
    )


def detect(context: Context) -> dict[str, Detector]:
    """Every detector on every head."""
    subject = context.subject
    rng = context.rng("head_profile")
    found = {}
    for name, seen in on_repeats(subject, rng).items():
        threshold = SINKS if name == "sink" else ATTENDS
        passes = (seen.paid >= threshold) & (seen.paid >= CLEAR * seen.baseline)
        found[name] = Detector("attention on random tokens", threshold, seen.paid, seen.baseline, passes)
    pairs = aligned(subject, Contrast(template="ioi", n=PAIRS, pairs=()), context.seed).same_places(subject)
    names = on_names(subject, batch(pairs.kept), rng)
    copied = copying(subject, progress=context.stage("reading what heads copy"))
    mover = names["IO"]
    moves = (mover.attention.paid >= MOVES) & (mover.attention.paid >= CLEAR * mover.attention.baseline)
    moves &= (mover.added >= MOVES) & (copied > COPIES)
    found["name mover"] = Detector(
        "attention to the indirect object", MOVES, mover.attention.paid, mover.attention.baseline, moves
    )
    lowers = sum(_lowers(name) for name in names.values()).bool() & (copied <= SUPPRESSES)  # type: ignore[union-attr]
    found["copy suppression"] = Detector(
        "1 - share of tokens that the token read is raised above",
        1 - SUPPRESSES,
        1 - copied,
        torch.full_like(copied, 0.5),
        lowers,
    )
    steps = []
    for step in (1, 2, 3):
        steps.append(succession(subject, step))
        context.progress(step, 3, "reading series")
    follows, chance = steps[0], torch.stack(steps[1:])
    found["succession"] = Detector(
        "share of series whose next member is raised most",
        SUCCEEDS,
        follows,
        chance.amax(0),
        (follows >= SUCCEEDS) & (follows >= CLEAR * chance.amax(0)),
    )
    return found


def _lowers(name: Name) -> Tensor:
    """Heads that attend to a name and lower its logit."""
    seen = name.attention
    return (seen.paid >= MOVES) & (seen.paid >= CLEAR * seen.baseline) & (name.added <= -MOVES)


def _head(subject: Subject, name: str) -> Head:
    layer, head = map(int, name.removeprefix("L").replace("H", ".").split("."))
    check_head(subject, layer, head)
    return layer, head


def _kind(name: str, detector: Detector) -> Kind:
    scores = (
        torch.where(detector.passes, detector.scores + 1, detector.scores) if detector.passes.any() else detector.scores
    )
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return Kind(
        label=name,
        score=detector.score,
        threshold=detector.threshold,
        baseline=float(detector.baseline[layer, head]),
        best=f"L{layer}H{head}",
        value=float(detector.scores[layer, head]),
        passing=int(detector.passes.sum()),
    )


def _scores(head: Head, detectors: dict[str, Detector], clearness: Tensor) -> HeadScores:
    own = clearness[:, head[0], head[1]]
    order = [list(detectors)[i] for i in own.argsort(descending=True).tolist() if own[i] > 0]
    return HeadScores(
        label=f"L{head[0]}H{head[1]}",
        kind=order[0] if order else "none",
        also=tuple(order[1:]),
        scores=tuple(Named(label=name, value=float(each.scores[head])) for name, each in detectors.items()),
    )


def _drawn(kinds: tuple[Kind, ...]) -> Picture:
    """The best head of each kind, beside chance."""
    bars = []
    for kind in kinds:
        told = kind.best if kind.passing else f"none, best {kind.best}"
        bars += [
            Bar(f"{kind.label}: {told}", kind.value),
            Bar(f"chance (from {kind.threshold:.2f} on it is of this kind)", kind.baseline, beside=True),
        ]
    return Picture("The best head of each kind", Bars(tuple(bars)), "score: attention, or share of tokens")


def _patterns(context: Context, heads: tuple[HeadScores, ...]) -> dict[str, Picture]:
    """What the first heads attend to on a prompt of indirect object identification, query by key."""
    subject = context.subject
    pair = aligned(subject, Contrast(template="ioi", n=1, pairs=()), context.seed).kept[0]
    tokens = labels(subject, replace(pair, corrupted=pair.clean))
    future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    found = {}
    for each in heads[:DRAWN]:
        layer, head = _head(subject, each.label)
        pattern = subject.value_at(point(subject, "pattern", layer), torch.tensor([pair.clean]))[0, head]
        shown = HeatMap.of(tokens, tokens, pattern.float().cpu().masked_fill(future, torch.nan))
        kind = " and ".join((each.kind, *each.also))
        title = f"{each.label} ({kind}): from each token (rows), attention to the tokens before it (columns)"
        found[each.label] = Picture(title, shown, "attention")
    return found


def _preservation(context: Context, head: Head, done: int, total: int) -> Preservation:
    found = preserved(context.subject, *head, context.seed)
    context.progress(done, total, "preserving heads")
    return Preservation(
        label=f"L{head[0]}H{head[1]}",
        by_ov=found.ov,
        by_ov_and_qk=found.both,
        permuted=found.permuted,
        effect=found.effect,
    )


def _ablation(context: Context, induction: Detector) -> Ablation | None:
    """None where no head passes for an induction head."""
    subject = context.subject
    if not induction.passes.any():
        return None
    order = induction.scores.flatten().argsort(descending=True).tolist()
    heads = [divmod(i, subject.n_heads) for i in order[:ABLATED]]
    rng = context.rng("head_profile", "ablation")
    losses = [float(loss_on_repeats(subject, _others(subject, heads, rng)).mean()) for _ in range(3)]
    return Ablation(
        heads=tuple(f"L{layer}H{head}" for layer, head in heads),
        loss=float(loss_on_repeats(subject).mean()),
        without=float(loss_on_repeats(subject, heads).mean()),
        random=float(np.mean(losses)),
    )


def _others(subject: Subject, heads: list[Head], rng: np.random.Generator) -> list[Head]:
    """As many other heads of each of their layers, as far as there are."""
    found = []
    for layer in {layer for layer, _ in heads}:
        own = [head for at, head in heads if at == layer]
        rest = [head for head in range(subject.n_heads) if head not in own]
        found += [(layer, int(head)) for head in rng.permutation(rest)[: len(own)]]
    return found
