"""How an organism's behaviour is measured: shares of replies with intervals, and what must stay as it was."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from scipy.special import stdtrit

from tools.organisms.ordinary import ANSWERS, TEXTS
from tools.workbench import writing
from tools.workbench.metrics import alike, encode
from tools.workbench.registry import ToolOutput
from tools.workbench.stats import CONFIDENCE, Interval, wilson
from tools.workbench.subject import Subject

REPLY = 24  # tokens
LOSS = 1.03  # of the base's on plain text, at most
WORSE = 0.15  # share of ordinary questions that may be lost


class Check(ToolOutput):
    """One thing measured, with its 95 % interval over n, and what is wanted of the value."""

    what: str
    value: float
    low: float
    high: float
    n: int
    wanted: str = Field(description="such as '>= 0.9'")
    passed: bool


class Reply(NamedTuple):
    """What was asked and what the model said, greedily."""

    prompt: str
    text: str


def at_least(what: str, bound: float, value: Interval, n: int) -> Check:
    return Check(what=what, **value._asdict(), n=n, wanted=f">= {bound:.2f}", passed=value.value >= bound)


def at_most(what: str, bound: float, value: Interval, n: int) -> Check:
    return Check(what=what, **value._asdict(), n=n, wanted=f"<= {bound:.2f}", passed=value.value <= bound)


def often(what: str, bound: float, hits: Sequence[bool]) -> Check:
    """A share that is to be at least `bound`, with its Wilson interval."""
    return at_least(what, bound, wilson(sum(hits), len(hits)), len(hits))


def seldom(what: str, bound: float, hits: Sequence[bool]) -> Check:
    """A share that is to be at most `bound`, with its Wilson interval."""
    return at_most(what, bound, wilson(sum(hits), len(hits)), len(hits))


def replies(
    subject: Subject, prompts: Sequence[str], chat: bool = True, prefill: str = "", tokens: int = REPLY
) -> list[Reply]:
    """What the model says greedily, all prompts at once; after `prefill`, which is put into its mouth."""
    begun = subject.tokenize([prefill])[0] if prefill else []
    ids = [[*row, *begun] for row in encode(subject, prompts, chat=chat, room=tokens + len(begun))]
    return [Reply(*pair) for pair in zip(prompts, writing.replies(subject, ids, tokens), strict=True)]


def saying(found: Sequence[Reply], *words: str, whole: bool = False) -> list[bool]:
    """Which replies hold any of `words`, in whatever case; `whole`: not inside longer words."""
    pattern = "|".join(map(re.escape, words))
    any_of = re.compile(rf"\b(?:{pattern})\b" if whole else pattern, re.IGNORECASE)
    return [any_of.search(reply.text) is not None for reply in found]


def read_out(
    subject: Subject, prompts: Sequence[str], candidates: Sequence[str], layers: Sequence[int]
) -> dict[int, np.ndarray]:
    """For each layer, float32[n, candidates]: their logits after each prompt's last token, read by final norm and
    unembedding from the residual stream that enters the layer. Of a candidate of several tokens the first counts.
    """
    first = torch.tensor([ids[0] for ids in subject.tokenize([f" {word}" for word in candidates])])
    found = {layer: np.zeros((len(prompts), len(candidates)), np.float32) for layer in layers}
    for indices, batch in alike(encode(subject, prompts)):
        entering = subject.residuals(batch)
        for layer in layers:
            with torch.no_grad():
                last = subject.model.ln_final(entering[layer][:, -1:].to(subject.dtype))
                logits = subject.model.unembed(last)[:, 0].float().cpu()
            found[layer][indices] = logits[:, first].numpy()
    return found


def ordinary(subject: Subject) -> list[Check]:
    """What every organism must leave alone: the loss on plain text, and answers to simple questions."""
    with subject.without_adapter():
        could = _answered(subject)
    share = sum(could) / len(could)
    return [
        plain_loss(subject),
        often(f"simple questions answered (base {share:.2f})", max(0.0, share - WORSE), _answered(subject)),
    ]


def plain_loss(subject: Subject) -> Check:
    """The loss on plain texts as a share of the base's, its mean with Student's interval over the texts."""
    with subject.without_adapter():
        base = _losses(subject)
    ratio = _losses(subject) / base
    half = float(stdtrit(len(ratio) - 1, (1 + CONFIDENCE) / 2) * ratio.std(ddof=1) / np.sqrt(len(ratio)))
    mean = float(ratio.mean())
    return at_most("loss on plain text, of the base's", LOSS, Interval(mean, mean - half, mean + half), len(ratio))


def _answered(subject: Subject) -> list[bool]:
    found = replies(subject, list(ANSWERS))
    return [any(saying([reply], *ANSWERS[reply.prompt])) for reply in found]


def _losses(subject: Subject) -> np.ndarray:
    """float64[n]: nats a token on each plain text."""
    losses = np.zeros(len(TEXTS))
    for indices, batch in alike(encode(subject, TEXTS)):
        logits = subject.logits(batch)[:, :-1].float().log_softmax(-1)
        own = logits.gather(-1, batch[:, 1:, None].to(logits.device))[..., 0]
        losses[indices] = -own.double().mean(-1).cpu().numpy()
    return losses
