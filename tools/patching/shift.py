"""SHIFT: makes a classifier forget what it should not go by, by ablating the latents that a judge calls irrelevant."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from prompts.providers import Role
from tools.workbench.accuracies import Accuracy, accuracy
from tools.workbench.batches import CONTEXT
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.misled import Learned, decoder_of, learned
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.readout import (
    Tokens,
    ablated,
    crossed,
    gain,
    graded,
    trained,
)
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.relevance import Verdict, judged
from tools.workbench.stats import Interval
from tools.workbench.two_by_two import Labelled, Tested

CHANCE = 0.5  # accuracy, of two classes
RANDOMS = 9  # draws of as many other latents
FITS = 5.0  # seconds
LICENCE = (
    "A rise says that the latents ablated held what misled the classifier on these texts; what is left of it may stand "
    "in latents that nobody named, or in the dictionary's error, which is kept."
)


class Input(ToolInput):
    """train: texts whose label goes with an attribute that it should not mean; test: texts of both labels with both
    attributes, in numbers of your choice, since the groups weigh alike. task: what the label is, for the judge."""

    task: Annotated[str, Field(min_length=1, max_length=300)]
    train: tuple[Labelled, ...] = Field(min_length=1, max_length=4000)
    test: tuple[Tested, ...] = Field(min_length=1, max_length=4000)
    irrelevant: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, max_length=500, description="the latents to ablate, by your own judgement; None: an LLM judges"
    )
    judged: int = Field(20, ge=1, le=200, description="latents that tell the classifier most, shown to the judge")
    tokens: Tokens = Field("mean", description="what the classifier reads of a text: mean over tokens, or the last")
    ablation: Literal["mean", "zero"] = Field("mean", description="of a latent: to its mean over train, or to 0")

    @property
    def silent(self) -> bool:
        return self.irrelevant is not None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.irrelevant is not None and not self.irrelevant:
            raise ValueError("irrelevant is empty: name latents, or leave it out to have an LLM judge them")
        return self


class LatentRead(ToolOutput):
    """A latent, and what it adds to the difference of mean log-odds between the classes on the training texts.
    snippets: where it is strongest. irrelevant: whether it was ablated; margin: the judge's, positive for relevant
    (None: not judged, or unreadable, and then kept); call: of the LLM."""

    latent: int
    effect: float
    snippets: tuple[str, ...]
    irrelevant: bool
    margin: float | None
    call: str | None


class Controls(ToolOutput):
    """chance: of a guess. random: mean accuracies with as many other latents ablated that are active on the training
    texts. balanced: of classifiers trained on test texts of all groups alike, on others than they are tested on: what
    could be had with labelled attributes."""

    chance: float
    random: tuple[float, ...]
    balanced: Accuracy


class Output(ToolOutput):
    """Accuracy on the test texts before, after the ablation, and with the classifier trained anew on ablated training
    texts. change: of the accuracy, after less before, with a 95 % interval; recovered: change over what balanced
    training gains (None where it gains nothing). effect_of_error: what the dictionary's error adds to the difference of
    mean log-odds, of which `difference` is the whole."""

    task: str
    judge: str
    positive: str
    trained_on: int
    tested_on: int
    difference: float
    effect_of_error: float
    latents: tuple[LatentRead, ...]
    ablated: tuple[int, ...]
    unparsed: int
    before: Accuracy
    after: Accuracy
    retrained: Accuracy
    change: float
    low: float
    high: float
    recovered: float | None
    controls: Controls
    clear: bool
    licence: str
    warnings: tuple[str, ...]
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds until the judge is asked: every text is read once, then the fits."""
    return FITS + pace(context.subject).reading(context.subject, [each.text for each in (*input.train, *input.test)])


def calls(input: Input, context: Context) -> int:
    """How many questions the judge is asked."""
    return 0 if input.silent else input.judged


@tool(version=1, estimate=estimate, asks=(Role.JUDGE,), calls=calls)
async def shift(input: Input, context: Context) -> Output:
    """Rids a classifier on the model's activations of what it should not go by, without texts that would teach it so.

    SHIFT (Marks et al. 2403.19647, section 4): latents that the classifier reads are ranked by their effect on it,
    exact since it is linear; those that an LLM (or you, by `irrelevant`) calls irrelevant to the task are ablated.
    Measured on all four groups of texts, beside as many random latents and training on balanced texts (2411.18895).
    """
    found = await alone(learned, context, input.train, input.test, input.irrelevant, input.judged, input.tokens)
    if input.irrelevant is None:
        judge, verdicts = await judged(context, input.task, found.shown, found.snippets)
    else:
        judge, verdicts = "the caller", [Verdict(i, i in input.irrelevant) for i in found.shown]
    return await alone(_finished, input, context, found, judge, verdicts)


def _finished(input: Input, context: Context, found: Learned, judge: str, verdicts: Sequence[Verdict]) -> Output:
    decoder, rng = decoder_of(context), context.rng("shift", input.model_dump_json())
    chosen = sorted({verdict.latent for verdict in verdicts if verdict.irrelevant})
    means = found.train.latents.mean(0, dtype=np.float64)
    to = means if input.ablation == "mean" else np.zeros_like(means)

    def without(latents: Sequence[int]) -> np.ndarray:
        return found.classifier.says(ablated(found.test, latents, to, decoder))

    before, after = without([]), without(chosen)
    again = trained(ablated(found.train, chosen, to, decoder), found.positive)
    retrained = again.says(ablated(found.test, chosen, to, decoder))
    free = np.setdiff1d(np.flatnonzero(found.train.peaks.max(0) > 0), chosen)
    drawn = [without(rng.permutation(free)[: len(chosen)].tolist()) for _ in range(RANDOMS)]
    balanced = crossed(found.test.x, found.truth, found.groups, int(rng.integers(2**31)))
    grades = [graded(says, found.truth, found.groups) for says in (before, after, retrained, balanced, *drawn)]
    was, now, anew, ceiling = (accuracy(grade, found.groups, found.classes, found.attributes) for grade in grades[:4])
    randoms = tuple(grade.mean.value for grade in grades[4:])
    risen = gain(after, before, found.truth, found.groups, rng)
    rival = drawn[int(np.argmax(randoms))]
    beside = gain(after, rival, found.truth, found.groups, rng)
    clear = bool(chosen) and min(risen.low, beside.low) > 0
    room = ceiling.accuracy - was.accuracy
    unparsed = sum(verdict.margin is None for verdict in verdicts) if input.irrelevant is None else 0
    by_latent = {verdict.latent: verdict for verdict in verdicts}
    latents = tuple(
        LatentRead(
            latent=latent,
            effect=float(found.effects[latent]),
            snippets=snippets,
            irrelevant=by_latent[latent].irrelevant,
            margin=by_latent[latent].margin,
            call=by_latent[latent].call,
        )
        for latent, snippets in zip(found.shown, found.snippets, strict=True)
    )
    warnings = []
    if cut := found.train.cut + found.test.cut:
        warnings.append(f"{cut} texts are longer than the {CONTEXT - 1} tokens that are read of each.")
    if unparsed:
        warnings.append(f"{unparsed} verdicts of {judge} could not be read: those latents were kept.")
    if room <= 0:
        warnings.append("Balanced training is no better than what was: there is nothing to win, or too little text.")
    verdict = _verdict(found, judge, chosen, (was, now, anew, ceiling), randoms, risen, clear)
    bars = [("before", was, False), (f"{len(chosen)} latents ablated", now, False), ("trained anew", anew, False)]
    bars += [("control: balanced training", ceiling, True)]
    drawing = [Bar(name, each.accuracy, each.low, each.high, beside) for name, each, beside in bars]
    drawing += [Bar(f"{name}, worst group", each.worst, each.worst_low, each.worst_high, beside)
                for name, each, beside in bars]  # fmt: skip
    drawing.append(Bar("control: random latents", float(np.mean(randoms)), min(randoms), max(randoms), True))
    return Output(
        task=input.task,
        judge=judge,
        positive=found.classes[1],
        trained_on=len(input.train),
        tested_on=len(input.test),
        difference=float(found.effects.sum()) + found.error,
        effect_of_error=found.error,
        latents=latents,
        ablated=tuple(chosen),
        unparsed=unparsed,
        before=was,
        after=now,
        retrained=anew,
        change=risen.value,
        low=risen.low,
        high=risen.high,
        recovered=risen.value / room if room > 0 else None,
        controls=Controls(chance=CHANCE, random=randoms, balanced=ceiling),
        clear=clear,
        licence=LICENCE,
        warnings=tuple(warnings),
        pictures=draw(
            context,
            "shift",
            input,
            groups=Picture(f"SHIFT: {input.task}", Bars(tuple(drawing)), "accuracy; chance is 0.5", verdict),
        ),
        verdict=f"{verdict}. {LICENCE}" + "".join(f" {warning}" for warning in warnings),
    )


def _verdict(
    found: Learned,
    judge: str,
    chosen: Sequence[int],
    accuracies: tuple[Accuracy, Accuracy, Accuracy, Accuracy],
    randoms: Sequence[float],
    risen: Interval,
    clear: bool,
) -> str:
    was, now, anew, ceiling = accuracies
    if not chosen:
        return (
            f"nothing was called irrelevant by {judge} among the {len(found.shown)} latents that tell the classifier "
            f"most, so nothing was ablated: accuracy {was.accuracy:.2f}, worst group {was.worst:.2f} (balanced "
            f"training {ceiling.accuracy:.2f}, chance {CHANCE})"
        )
    what = "1 latent" if len(chosen) == 1 else f"{len(chosen)} latents"
    return (
        f"{what} that {judge} calls irrelevant ablated: accuracy {was.accuracy:.2f} -> "
        f"{now.accuracy:.2f}, a change of {risen.value:+z.2f} [{risen.low:+z.2f}, {risen.high:+z.2f}], worst group "
        f"{was.worst:.2f} -> {now.worst:.2f}, following the attribute {was.follows:.2f} -> {now.follows:.2f}; trained "
        f"anew {anew.accuracy:.2f} (worst {anew.worst:.2f}); as many random latents {min(randoms):.2f} to "
        f"{max(randoms):.2f}, balanced training {ceiling.accuracy:.2f} (worst {ceiling.worst:.2f}), chance {CHANCE}: "
        f"{'clear' if clear else 'not clear'} of its controls"
    )
