"""Which tokens a fact is read from: each head's direct effect on the answer, split by the token that the head reads."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.probing.facts import Prompt, filled, spot
from tools.probing.sources import GROUPS, by_source, first_token
from tools.workbench.causal import interval, told
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import HeatMap
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

MIXED = 1 / 3  # of a head's effect: a group with more of it has a part in it
HEADS = 12  # told
LICENCE = "Direct effects alone, the final norm's scale held: what heads write for later parts to read is left out."
DEFAULT = (("Paris", " France"), ("Rome", " Italy"), ("Tokyo", " Japan"), ("Berlin", " Germany"), ("Cairo", " Egypt"),
           ("Athens", " Greece"), ("Mumbai", " India"), ("Lagos", " Nigeria"))  # fmt: skip


class Answered(ToolInput):
    """A subject and the first token of its answer, with its leading space."""

    subject: Annotated[str, Field(min_length=1, max_length=200)]
    answer: Annotated[str, Field(min_length=1, max_length=50)]


class Input(ToolInput):
    """Facts of one relation and the prompt that asks for each, the relation before the subject: what comes after it has
    read it. A fact is swapped with the next one: that subject is put in its prompt, and its answer is the other."""

    template: Prompt = "In which country is the city of {entity}? It is in"
    facts: Annotated[tuple[Answered, ...], Field(min_length=4, max_length=64)] = tuple(
        Answered(subject=subject, answer=answer) for subject, answer in DEFAULT
    )
    n: int = Field(HEADS, ge=1, le=60, description="heads told")


class Group(ToolOutput):
    """What all heads add by reading a group of tokens, logits: to the answer against every other token (plain), and
    against the other fact's answer (effect, with its 95 % interval over facts); plain_swapped, swapped: those when the
    other fact's subject stands in the prompt. unrelated: the size of what they add for
    the answers of two further facts."""

    label: str
    plain: float
    plain_swapped: float
    effect: float
    low: float | None
    high: float | None
    swapped: float
    unrelated: float


class Head(ToolOutput):
    """A head by what it reads: subject, relation (with the end), mixed, or other where it is BOS. value, and of it what
    comes from the subject's and the relation's tokens: to the answer against every other token. effect: of the
    subject's, to the answer against the other fact's; swapped: that when the other's subject stands there."""

    label: str
    kind: str
    value: float
    subject: float
    relation: float
    effect: float
    swapped: float


class Controls(ToolOutput):
    """unrelated: what the subject's tokens add for answers of two further facts; off: the most by which the sum over
    sources misses a head's own effect; probability: of the answer, mean over facts."""

    unrelated: float
    off: float
    probability: float


class Output(ToolOutput):
    """groups, the heads that add most, and a map: heads x groups."""

    facts: int
    groups: tuple[Group, ...]
    heads: tuple[Head, ...]
    map: HeatMap
    controls: Controls
    clear: bool
    licence: str
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: each fact's prompt read four times, all heads told by source."""
    now = pace(context.subject)
    return 20 * now.start + 8 * len(input.facts) * 20 * now.token


@tool(version=1, estimate=estimate)
def dla_by_source(input: Input, context: Context) -> Output:
    """Splits what heads add to a fact's answer by the tokens they read: the subject's, the relation's, the end.

    Swapping the subject should turn the subject's part: what the relation's tokens add (any country, say) stays.
    Source: Chughtai et al. 2402.07321. Which heads extract the attribute is what steer_entity then watches.
    """
    subject = context.subject
    answers = [first_token(subject, fact.answer) for fact in input.facts]
    n = len(answers)
    if len(set(answers)) < 2:
        raise ToolError("All facts have the same answer: give facts with different ones, or swapping changes nothing.")
    names = [fact.subject for fact in input.facts]
    others = [next(j % n for j in range(i + 1, i + n) if answers[j % n] != answers[i]) for i in range(n)]
    further = [((i + n // 2) % n, (i + n // 2 + 1) % n) for i in range(n)]
    swapped = [names[other] for other in others]
    plain = by_source(subject, input.template, [*names, *swapped], [*answers, *answers])
    context.progress(1, 3)
    against = by_source(
        subject,
        input.template,
        [*names, *swapped, *names],
        [*answers, *answers, *(answers[i] for i, _ in further)],
        [*(answers[other] for other in others)] * 2 + [answers[i] for _, i in further],
    )
    context.progress(2, 3)
    chances = [_probability(subject, input.template, *each) for each in zip(names, answers, strict=True)]
    context.progress(3, 3)
    each = [*plain.groups.chunk(2), *against.groups.chunk(3)]
    totals = [found.sum((1, 2)).cpu().numpy() for found in each]  # [n, groups]
    groups = tuple(_group(k, *(total[:, k] for total in totals)) for k in range(len(GROUPS)))
    controls = Controls(
        unrelated=float(np.abs(totals[4][:, 1]).mean()),
        off=max(plain.off, against.off),
        probability=float(np.mean(chances)),
    )
    heads, map = _heads(each[0].mean(0), each[2].mean(0), each[3].mean(0), input.n)
    by_name = {group.label: group for group in groups}
    about, relation = by_name["subject"], by_name["relation"]
    clear = bool(about.low is not None and about.low > controls.unrelated and about.swapped < 0)
    verdict = (
        f"of {n} facts (answered with {controls.probability:.2f}) heads reading the subject's tokens add "
        f"{about.plain:+.2f} to the answer and those reading the relation's {relation.plain:+.2f} (subject swapped "
        f"{about.plain_swapped:+.2f} and {relation.plain_swapped:+.2f}); against the other fact's answer "
        f"{told(about.effect, about.low, about.high)} and {told(relation.effect, relation.low, relation.high)}, "
        f"swapped {about.swapped:+.2f} and {relation.swapped:+.2f}; two unrelated answers {about.unrelated:.2f}: "
        f"{'clear' if clear else 'not clear'} of its controls. {LICENCE}"
    )
    bars = [
        bar
        for group in groups
        for bar in (
            Bar(f"{group.label}", group.effect, group.low, group.high),
            Bar(f"{group.label}, subject swapped", group.swapped, beside=True),
        )
    ]
    title = f"What heads add to the answer by the tokens they read, {n} facts: {input.template!r}"
    return Output(
        facts=n,
        groups=groups,
        heads=heads,
        map=map,
        controls=controls,
        clear=clear,
        licence=LICENCE,
        pictures=draw(
            context,
            "dla_by_source",
            input,
            groups=Picture(title, Bars(tuple(bars)), "logits, answer less other", controls_said(controls)),
            heads=Picture(f"{title}; heads", map, "logits, answer", controls_said(controls)),
        ),
        verdict=verdict,
    )


def _probability(subject: Subject, template: str, name: str, answer: int) -> float:
    tokens = torch.tensor([spot(subject, filled(template, name), name).tokens])
    return float(subject.logits(tokens)[0, -1].double().softmax(-1)[answer])


def _group(
    k: int,
    plain: np.ndarray,
    plain_swapped: np.ndarray,
    effect: np.ndarray,
    swapped: np.ndarray,
    unrelated: np.ndarray,
) -> Group:
    low, high = interval(effect)
    return Group(
        label=GROUPS[k],
        plain=float(plain.mean()),
        plain_swapped=float(plain_swapped.mean()),
        effect=float(effect.mean()),
        low=low,
        high=high,
        swapped=float(swapped.mean()),
        unrelated=float(np.abs(unrelated).mean()),
    )


def _heads(plain: Tensor, effect: Tensor, swapped: Tensor, n: int) -> tuple[tuple[Head, ...], HeatMap]:
    """The heads that add most to the answer by reading the prompt: [layers, heads, groups] each."""
    width = plain.shape[1]
    order = plain.abs().amax(-1).flatten().argsort(descending=True)[:n].tolist()
    places = [divmod(i, width) for i in order]
    heads = []
    for layer, head in places:
        bos, about, relation, end = plain[layer, head].tolist()
        asked = relation + end
        shares = {"subject": abs(about), "relation": abs(asked), "other": abs(bos)}
        whole = sum(shares.values())
        most = max(shares, key=lambda name: shares[name])
        both = min(shares["subject"], shares["relation"]) > MIXED * whole
        heads.append(
            Head(
                label=f"L{layer}H{head}",
                kind="mixed" if both else most,
                value=bos + about + asked,
                subject=about,
                relation=asked,
                effect=float(effect[layer, head, 1]),
                swapped=float(swapped[layer, head, 1]),
            )
        )
    rows = [head.label for head in heads]
    return tuple(heads), HeatMap.of(rows, GROUPS, torch.stack([plain[place] for place in places]))
