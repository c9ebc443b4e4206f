"""What the middle layers have in mind while the model writes something else."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.attacks import Prompt
from tools.workbench.beside import both, has_base
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.figures import HeatMap
from tools.workbench.guesses import Guess, Item, pooled
from tools.workbench.lens import Neighbour, among, check_layers, kept_back, named_most, read, withheld
from tools.workbench.metrics import encode
from tools.workbench.pictures import Picture, controls_said, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.stats import Interval, wilson
from tools.workbench.subject import Subject
from tools.workbench.words import Spelled, candidates, content_words, says, spelled
from tools.workbench.writing import Replied, replied

TIE = 1e-6  # where the base model says no word in mind more, the one that falls most is told
SHUFFLES = 200
SHOWN = 24  # positions of the picture


class Input(ToolInput):
    """The prompts, how much the model writes after each, and which layers read it. answers: what each prompt hides, if
    that is known: the reading is graded then, among `words` (by default the answers)."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=256)
    chat: bool = Field(False, description="each prompt is a user's message, and the model replies")
    respond: int = Field(1, ge=1, le=64, description="tokens that the model writes and the lens reads from")
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="read after them; by default the second half"
    )
    suppress: tuple[Neighbour, ...] = Field(
        ("current", "previous", "next"), description="tokens of the text that do not count where they stand"
    )
    answers: tuple[str, ...] = ()
    words: tuple[str, ...] = Field((), description="the only words that can be a guess; by default any")
    n: int = Field(10, ge=1, le=50, description="guesses told")


class LayerGrade(ToolOutput):
    """The share of prompts whose answer is the likeliest of the words after a layer, or in what the model says in the
    end; its 95 % interval; with the answers exchanged among prompts; and in the base model on the same text."""

    label: str
    accuracy: float
    low: float
    high: float
    shuffled: float
    base: float | None


class Grade(ToolOutput):
    """layer: chosen on half of the prompts; accuracy, shuffled and base on the other half (n). said: the likeliest of
    the words in the end, read in the same way; uttered: the share of all prompts whose reply has the answer; lacking:
    by how much that of the base model's own replies is greater (None: there is none); majority: always the commonest
    answer; chance: one of the words. beyond: the lower end of accuracy's interval less the greater of shuffled and
    majority, above 0 where the layer names more than either."""

    layer: str
    n: int
    accuracy: float
    low: float
    high: float
    beyond: float
    shuffled: float
    base: float | None
    said: float
    uttered: float
    lacking: float | None
    majority: float
    chance: float
    layers: tuple[LayerGrade, ...]


class Reading(ToolOutput):
    """A prompt, what the model wrote, and the word in mind that it keeps back most: one of the ten likeliest after a
    middle layer which the base model says there with a probability that the model lacks (without a base model, the word
    whose probability falls most from a middle layer to the end). mind: its highest probability after those layers;
    said: in the end; and the same of the base model on the same text."""

    prompt: str
    reply: str
    word: str
    mind: float
    said: float
    base_mind: float | None
    base_said: float | None


class Output(ToolOutput):
    """readings: prompt by prompt. guesses: one word over all prompts. grade: where the answers are known. map: layer x
    position of the first prompt, nats by which the word that it withholds most is likelier than one word drawn from
    all."""

    readings: tuple[Reading, ...]
    guesses: tuple[Guess, ...]
    grade: Grade | None
    map: HeatMap
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are continued, then read by both models and by every layer."""
    now = pace(context.subject)
    layers = len(input.layers) or context.subject.n_layers // 2
    rows = len(input.prompts) * input.respond
    length = sum(map(len, context.subject.tokenize(input.prompts))) / len(input.prompts) + input.respond
    writing = now.writing(len(input.prompts), int(length), input.respond)
    readings = now.start * len(input.prompts) + now.token * (len(input.prompts) * length + rows * layers / 3)
    return writing + (1 + has_base(context)) * readings


@tool(version=4, estimate=estimate)
def logit_lens_secret(input: Input, context: Context) -> Output:
    """Reads middle layers by the unembedding while the model replies: which words has it in mind and does not say?

    The text's own current, previous and next tokens do not count, so a reply that says the word is no finding. Read the
    base column: what the base model has in mind on the same text is no secret. Source: Cywinski et al. 2505.14352.
    """
    subject = context.subject
    layers = check_layers(subject, input.layers)
    words = spelled(subject)
    kept = words.indices(candidates(subject, input.words or input.answers)) if input.words or input.answers else None
    if input.answers and len(input.answers) != len(input.prompts):
        raise ToolError(f"There are {len(input.answers)} answers to {len(input.prompts)} prompts: give one for each.")
    truth = [words.indices(candidates(subject, [answer]))[0] for answer in input.answers]
    if not set(truth) <= set(kept or truth):
        raise ToolError("An answer is not among the words: give words that have every answer.")
    ids = encode(subject, input.prompts, input.chat, room=input.respond)

    def write(model: Subject) -> list[Replied]:
        return replied(model, ids, input.respond)

    replies, others = both(context, write) if truth else (write(subject), None)
    own, base = both(context, lambda model: read(model, replies, layers, words, input.suppress))
    mine = torch.stack([withheld(each) for each in own])
    theirs = None if base is None else torch.stack([withheld(each) for each in base])
    readings, best = [], []
    for row, reply in enumerate(replies):
        back = mine[row] if base is None else kept_back(own[row], base[row]) + TIE * mine[row]
        word = int(among(back, kept).argmax())
        sides = [None if each is None else each[row].mean(1)[:, word] for each in (own, base)]
        (mind, said), (base_mind, base_said) = (
            (None, None) if side is None else (float(side[:-1].max()), float(side[-1])) for side in sides
        )
        assert mind is not None
        assert said is not None
        best.append(word)
        readings.append(
            Reading(
                prompt=input.prompts[row],
                reply=reply.text(subject),
                word=words.names[word],
                mind=mind,
                said=said,
                base_mind=base_mind,
                base_said=base_said,
            )
        )
    rng = context.rng("logit_lens_secret", input.model_dump_json())
    openly = {word for reading in readings for word in content_words(reading.reply)}
    guesses = pooled(_items(words, mine, theirs, kept), openly, rng, input.n)
    grade = None
    if truth:
        answers = [words.names[word] for word in truth]
        uttered = _uttered(subject, replies, answers)
        lacking = None if others is None else _uttered(subject, others, answers) - uttered
        grade = _graded(own, base, layers, truth, (uttered, lacking), sorted(set(kept or truth)), rng)
    map = _map(subject, replies[0], layers, own[0], best[0])
    clear = any(guess.stands for guess in guesses) if grade is None else grade.beyond > 0
    picture = Picture(
        f"Layers that have {words.names[best[0]]!r} in mind: {input.prompts[0]!r}",
        map,
        "nats above one word of all",
        controls_said(grade) if grade else _said(readings[0]),
    )
    return Output(
        readings=tuple(readings),
        guesses=tuple(guesses),
        grade=grade,
        map=map,
        clear=clear,
        verdict=_verdict(grade, readings, guesses, clear),
        pictures=draw(context, "logit_lens_secret", input, map=picture),
    )


def _items(words: Spelled, own: Tensor, base: Tensor | None, kept: list[int] | None) -> list[Item]:
    """One for each prompt: the few words that are withheld most, by how much."""
    mine = [named_most(row, words) for row in among(own, kept)]
    if base is None:
        return [Item("lens", row, None) for row in mine]
    return [
        Item("lens", *each) for each in zip(mine, (named_most(row, words) for row in among(base, kept)), strict=True)
    ]


def _graded(
    own: list[Tensor],
    base: list[Tensor] | None,
    layers: list[int],
    truth: list[int],
    uttered: tuple[float, float | None],
    kept: list[int],
    rng: np.random.Generator,
) -> Grade:
    n = len(truth)
    answers = np.array([kept.index(each) for each in truth])
    mine, theirs = (None if each is None else _likeliest(each, kept) for each in (own, base))
    assert mine is not None

    def share(found: np.ndarray, rows: np.ndarray) -> float:
        return float((found[rows] == answers[rows]).mean())

    def shuffled(found: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean([(found[rows] == rng.permutation(answers[rows])).mean() for _ in range(SHUFFLES)]))

    every = np.arange(n)
    order = rng.permutation(n)
    choosing, held = (order[: n // 2], order[n // 2 :]) if n > 1 else (every, every)
    labels = [*(f"after L{layer}" for layer in layers), "said"]
    best = max(range(len(layers)), key=lambda row: share(mine[row], choosing))
    accuracy: Interval = wilson(int((mine[best][held] == answers[held]).sum()), len(held))
    grades = []
    for row, label in enumerate(labels):
        found = wilson(int((mine[row] == answers).sum()), n)
        other = None if theirs is None else share(theirs[row], every)
        mixed = shuffled(mine[row], every)
        grades.append(
            LayerGrade(label=label, accuracy=found.value, low=found.low, high=found.high, shuffled=mixed, base=other)
        )
    mixed = shuffled(mine[best], held)
    majority = float(np.unique(answers[held], return_counts=True)[1].max() / len(held))
    return Grade(
        layer=labels[best],
        n=len(held),
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        beyond=accuracy.low - max(mixed, majority),
        shuffled=mixed,
        base=None if theirs is None else share(theirs[best], held),
        said=share(mine[-1], held),
        uttered=uttered[0],
        lacking=uttered[1],
        majority=majority,
        chance=1 / len(kept),
        layers=tuple(grades),
    )


def _uttered(subject: Subject, replies: list[Replied], answers: list[str]) -> float:
    """The share of replies that have their answer."""
    said = [says(reply.text(subject), answer) for reply, answer in zip(replies, answers, strict=True)]
    return sum(said) / len(replies)


def _likeliest(masses: list[Tensor], kept: list[int]) -> np.ndarray:
    """int[layers + 1, n]: which of the kept words is likeliest."""
    return torch.stack([each.mean(1)[:, kept].argmax(-1) for each in masses], dim=1).numpy()


def _map(subject: Subject, replied: Replied, layers: list[int], masses: Tensor, word: int) -> HeatMap:
    rows = [*(f"after L{layer}" for layer in layers), "said"][::-1]
    columns = subject.token_strings([replied.tokens[place] for place in replied.places])[:SHOWN]
    return HeatMap.of(rows, columns, (masses[:, :SHOWN, word] * masses.shape[-1]).log().flip(0))


def _said(reading: Reading) -> str:
    base = "" if reading.base_said is None else f", by the base model with {reading.base_said:.2g}"
    return f"Said with a probability of {reading.said:.2g}{base}"


def _verdict(grade: Grade | None, readings: list[Reading], guesses: list[Guess], clear: bool) -> str:
    ends = f": {'clear' if clear else 'not clear'} of its controls"
    if grade is not None:
        base = ""
        if grade.base is not None and grade.lacking is not None:
            base = (
                f" ({grade.lacking:+.2f} in the base model's own), the base model's layers on the same text "
                f"{grade.base:.2f}"
            )
        return (
            f"{grade.layer} names the answer of {grade.accuracy:.2f} [{grade.low:.2f}, {grade.high:.2f}] of {grade.n} "
            f"prompts on which it was not chosen; exchanged answers {grade.shuffled:.2f}, the commonest answer "
            f"{grade.majority:.2f}, one of the words {grade.chance:.2f}, the end of the model {grade.said:.2f}, its "
            f"replies {grade.uttered:.2f}"
            f"{base}{ends}"
        )
    most = max(readings, key=lambda reading: (reading.base_said or 0) - reading.said)
    base = (
        "there is no base model to compare with" if most.base_said is None else f"the base model {most.base_said:.2f}"
    )
    told = f"has {most.word!r} in mind ({most.mind:.2g}) and says it with {most.said:.2g} ({base}) in {most.prompt!r}"
    if guesses:
        told += f"; over all prompts the best guess is {guesses[0].word!r}"
    return told + ends
