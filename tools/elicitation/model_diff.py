"""Where a model differs from its base: on which prompts, by which words, from which layer on, and in which latents."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field
from torch import Tensor

from tools.workbench.attacks import Prompt
from tools.workbench.beside import has_base, need_base
from tools.workbench.causal import interval
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.differing import Difference, Firing, differing, scaling, standing_out
from tools.workbench.occasions import KINDS, Half, Prompted, check_kinds, prompted, spelled_out, where
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject
from tools.workbench.words import spelled
from tools.workbench.writing import replied

CHANGED = 1e-6  # of the residual stream's length: from this on a layer differs
FAINT = 0.001  # nats: rounding alone can differ so much between kinds of prompts
GAINED = 0.001  # of probability: a smaller change of a word is not told
WORDS = 5
MOST = float(np.log(2))  # nats: two distributions are no farther apart


class Input(ToolInput):
    """Which kinds of prompts, which half of them, how many of each, and prompts of the caller's own. focus: the kind
    that is said to differ most, put beside the others. level: the p it may have. latents: whether to compare them."""

    kinds: tuple[str, ...] = Field((), max_length=32, description="by default all")
    half: Half = "look"
    each: int = Field(8, ge=2, le=12)
    prompts: tuple[Prompt, ...] = Field((), max_length=64)
    chat: bool = Field(True, description="the caller's own prompts are a user's messages")
    focus: str | None = None
    respond: int = Field(6, ge=1, le=64, description="tokens that the model writes and both read")
    latents: bool = True
    level: float = Field(0.05, gt=0, lt=1)
    n: int = Field(10, ge=1, le=50, description="prompts and latents told")


class Change(ToolOutput):
    """A word and how much likelier the model finds it than the base model does, mean over positions."""

    word: str
    change: float


class KindShift(ToolOutput):
    """Of prompts of a kind: the Jensen-Shannon divergence of the next-token distributions, nats, its mean with a 95 %
    interval, and how much more it is than on the other kinds (contrast), with the p of that by permutation. chance: the
    same two of the base model with a scrambled change. gained, lost: the words."""

    kind: str
    n: int
    js: float
    low: float
    high: float
    contrast: float
    p: float
    chance_js: float | None
    chance_contrast: float | None
    gained: tuple[Change, ...]
    lost: tuple[Change, ...]


class PromptShift(ToolOutput):
    """A prompt, the divergences there, the text up to the token where they are greatest, and the words."""

    prompt: str
    kind: str
    js: float
    kl: float
    peak: str
    gained: tuple[Change, ...]
    lost: tuple[Change, ...]


class LatentShift(ToolOutput):
    """A latent, the share of positions on which it fires in the model and in the base model on the same text, and nu,
    the base's scale of it as a share of the model's (None: it never fires in the model)."""

    latent: int
    rate: float
    base: float
    nu: float | None
    stands: bool


class Controls(ToolOutput):
    """Of the base model with a change of the adapter's size that is about nothing (its rows and columns permuted): mean
    divergence, and the greatest difference of any latent's firing rate. None where no adapter makes the difference."""

    scrambled: float | None
    scrambled_rate: float | None


class Output(ToolOutput):
    """js: mean over all prompts. first_layer: the first that gives another output than the base model's, -1 for the
    embedding; None: none does. layers: how far the residual streams entering each layer, and leaving the last, are
    apart, as a share of their length. latents: by how far the firing rates differ; those that stand differ more than
    any does by chance."""

    js: float
    focus: KindShift | None
    kinds: tuple[KindShift, ...]
    prompts: tuple[PromptShift, ...]
    first_layer: int | None
    layers: tuple[float, ...]
    latents: tuple[LatentShift, ...]
    latents_note: str
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every prompt continued by the model, and read two or three times, twice where latents are compared."""
    now = pace(context.subject)
    rows = (len(input.kinds) or len(KINDS)) * input.each + len(input.prompts)
    reading = rows * (now.start / 8 + now.token * (CHAT + input.respond))
    return now.writing(rows, CHAT, input.respond) + (2 + has_base(context)) * (1 + 0.5 * input.latents) * reading


@tool(version=2, estimate=estimate)
def model_diff(input: Input, context: Context) -> Output:
    """Compares a model with its base on prompts of many kinds: which differ most, by which words, from which layer on.

    Latents whose firing differs on the same text have their latent scaling (nu) beside them. Chance is the same change
    of weights scrambled. The base model against itself differs nowhere. Source: Minder et al. 2504.02922.
    """
    need_base(context)
    subject = context.subject
    asked = prompted(check_kinds(input.kinds), input.half, input.each, input.prompts, input.chat)
    kinds = tuple(dict.fromkeys(prompt.kind for prompt in asked))
    if input.focus is not None and input.focus not in kinds:
        raise ToolError(f"The focus {input.focus!r} is none of the kinds compared: name one of {', '.join(kinds)}.")
    texts = replied(subject, spelled_out(subject, asked, input.respond), input.respond)
    latents = input.latents and subject.has_dictionary and not subject.dictionary.is_transcoder
    found = differing(context, texts, latents, input.model_dump_json())
    rng = context.rng("model_diff", input.model_dump_json())
    shifts = tuple(_kind(subject, kind, asked, found, rng) for kind in kinds)
    focus = next((shift for shift in shifts if shift.kind == input.focus), None)
    order = np.argsort(-found.js, kind="stable")[: input.n]
    rates, note = _latents(found.latents, input.n) if found.latents else ((), "latents were not compared")
    differs = [layer - 1 for layer, apart in enumerate(found.layers) if apart > CHANGED]
    controls = Controls(
        scrambled=None if found.chance is None else float(found.chance.mean()),
        scrambled_rate=_chance_rate(found.latents) if found.latents else None,
    )
    told = (focus,) if focus else shifts
    level = input.level / len(told)
    clear = [shift for shift in told if not lacking(shift, level)]
    return Output(
        js=float(found.js.mean()),
        focus=focus,
        kinds=tuple(sorted(shifts, key=lambda shift: -shift.js)),
        prompts=tuple(
            PromptShift(
                prompt=asked[row].text,
                kind=asked[row].kind,
                js=float(found.js[row]),
                kl=float(found.kl[row]),
                peak=str(subject.tokenizer.decode(texts[row].tokens[texts[row].prompt : found.peak[row] + 1])),
                **_changes(subject, found.change[row]),
            )
            for row in order
        ),
        first_layer=differs[0] if differs else None,
        layers=tuple(map(float, found.layers)),
        latents=rates,
        latents_note=note,
        controls=controls,
        clear=bool(clear),
        verdict=_verdict(max(clear or told, key=lambda shift: shift.js), found, controls, differs, level),
        pictures=draw(context, "model_diff", input, kinds=_picture(shifts, controls)),
    )


def _kind(
    subject: Subject, kind: str, asked: Sequence[Prompted], found: Difference, rng: np.random.Generator
) -> KindShift:
    chosen = np.array([prompt.kind == kind for prompt in asked])
    mean = float(found.js[chosen].mean())
    low, high = interval(found.js[chosen])
    contrast, p = standing_out(found.js, chosen, rng)
    by_chance = None if found.chance is None else standing_out(found.chance, chosen, rng)[0]
    return KindShift(
        kind=kind,
        n=int(chosen.sum()),
        js=mean,
        low=mean if low is None else max(0.0, low),
        high=mean if high is None else min(MOST, high),
        contrast=contrast,
        p=p,
        chance_js=None if found.chance is None else float(found.chance[chosen].mean()),
        chance_contrast=by_chance,
        **_changes(subject, found.change[np.flatnonzero(chosen)].mean(0)),
    )


def lacking(shift: KindShift, level: float) -> str:
    """By what a kind does not stand out from the others clear of its controls; "" where it does."""
    if shift.p == 1 and shift.contrast == shift.js:
        return "there is no other kind to compare it with"
    if shift.p > level:
        return f"this kind does not stand out from the others, p {shift.p:.3g} where {level:.3g} is the most allowed"
    if shift.contrast <= FAINT:
        return f"it differs from the others by {shift.contrast:.2g} nats, which is rounding"
    chance = shift.chance_contrast or 0.0
    if shift.contrast <= chance:
        return f"the scrambled change sets this kind apart by as much, {chance:.3g} nats"
    return ""


def _changes(subject: Subject, change: Tensor) -> dict[str, tuple[Change, ...]]:
    names = spelled(subject).names
    found = {}
    for name, sign in (("gained", 1), ("lost", -1)):
        top = (sign * change).topk(WORDS)
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        found[name] = tuple(Change(word=names[i], change=sign * value) for i, value in pairs if value >= GAINED)
    return found


def _latents(firing: Firing, n: int) -> tuple[tuple[LatentShift, ...], str]:
    own, base = (rates.mean(0) for rates in firing.rates[:2])
    apart, nu = np.abs(own - base), scaling(firing)
    chance = _chance_rate(firing)
    order = [int(i) for i in np.argsort(-apart, kind="stable")[:n] if apart[i] > 0]
    found = tuple(
        LatentShift(
            latent=i,
            rate=float(own[i]),
            base=float(base[i]),
            nu=float(nu[i]) if np.isfinite(nu[i]) else None,
            stands=chance is not None and bool(apart[i] > chance),
        )
        for i in order
    )
    if not found:
        return (), "no latent fires otherwise: nothing differs where the dictionary reads"
    standing = sum(each.stands for each in found)
    return (
        found,
        f"{int((apart > 0).sum()):,} latents fire otherwise, {standing} of the {len(found)} told beyond chance",
    )


def _chance_rate(firing: Firing) -> float | None:
    third = firing.rates[2]
    return None if third is None else float(np.abs(third.mean(0) - firing.rates[1].mean(0)).max())


def _picture(shifts: Sequence[KindShift], controls: Controls) -> Picture | None:
    """A bar for each kind of prompts; None where nothing differs."""
    if not any(shift.js for shift in shifts):
        return None
    foot = "Lines: 95 % intervals. The base model against itself: 0."
    bars = [Bar(shift.kind, shift.js, shift.low, shift.high) for shift in sorted(shifts, key=lambda shift: -shift.js)]
    if controls.scrambled is not None:
        bars.append(Bar("scrambled change", controls.scrambled, beside=True))
        foot += " Scrambled: a change as large that is about nothing."
    return Picture(
        "How far the next-token distributions of model and base are apart",
        Bars(tuple(bars)),
        "Jensen-Shannon divergence, nats",
        foot,
    )


def _verdict(shift: KindShift, found: Difference, controls: Controls, differs: Sequence[int], level: float) -> str:
    if not found.js.any():
        return "the model and its base are the same on every prompt: not clear of its controls"
    words = ", ".join(repr(each.word) for each in shift.gained[:3]) or "no word"
    lacks = lacking(shift, level)
    ends = f"not clear of its controls: {lacks}" if lacks else f"p {shift.p:.3g}: clear of its controls"
    by = "" if controls.scrambled is None else f", {controls.scrambled:.3g} with the change scrambled"
    return (
        f"differs {'' if lacks else 'more '}{where(shift.kind)}"
        f": {shift.js:.3g} nats [{shift.low:.3g}, {shift.high:.3g}], {shift.js - shift.contrast:.3g} elsewhere "
        f"and {found.js.mean():.3g} in all{by}; gains {words}; the first layer that differs is "
        f"{differs[0] if differs else 'none'}; {ends}"
    )
