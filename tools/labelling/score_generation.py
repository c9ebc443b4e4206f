"""Generation: does the latent fire on texts that are written from its explanation, and not on near misses?"""

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from prompts.ask import LLM
from prompts.errors import NoAnswer
from prompts.providers import Role
from store.types import Noun
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.examples import need_firings
from tools.workbench.reading import read_text
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.results import ScoreOutput
from tools.workbench.stats import Interval, auroc, auroc_interval, wilson

FIRES = 0.1  # of the latent's maximum over the harvest: firing
TOGETHER = 5  # texts asked for at once
STYLES = ("a newspaper", "a novel", "a web page", "a manual", "a letter", "a forum post", "a textbook", "a speech")
LEAST = 4  # texts of each kind that a score needs
CHANCE = 0.5


class Input(ToolInput):
    """An explanation, and how many texts of each kind to have written from it."""

    latent: int
    text: str = Field(min_length=1, description="the explanation")
    floor_text: str | None = Field(None, description="another latent's explanation, written from in the same way")
    texts: int = Field(10, ge=LEAST, le=50, description="that should fire, and as many near misses")


class Written(Noun):
    """A text, whether it should fire, the latent's peak on it (dictionary units), and that of the other latent."""

    text: str
    should_fire: bool
    peak: float
    other_peak: float


class Controls(ToolOutput):
    """The same texts: AUROC of another active latent, and the share of texts that fire it."""

    random_latent: int
    auroc: float
    fires: float


class Output(ScoreOutput):
    """`value`: AUROC of the latent's peak, texts that should fire against near misses. fires and misfires: shares of
    either that reach a tenth of the latent's maximum. `judge` is who wrote them; `unparsed` texts did not come."""

    fires: float
    fires_low: float
    fires_high: float
    misfires: float
    texts: tuple[Written, ...]
    controls: Controls
    verdict: str


class Texts(BaseModel):
    """The reply."""

    texts: list[Annotated[str, Field(min_length=1)]]


@tool(version=2, asks=(Role.EXPLAINER,))
async def score_generation(input: Input, context: Context) -> Output:
    """Scores an explanation by asking the model: an LLM writes texts that should fire the latent, and near misses.

    Precise explanations fire on the first and not on the second; one that is too broad misfires, one that is too narrow
    stays silent elsewhere, which this cannot see: pair it with detection. Source: the generation score of 2511.20820.
    """
    latent = context.subject.latent(input.latent)
    harvest = context.need_harvest()
    need_firings(harvest, input.latent)
    llm = context.need_llm()
    firing, near = await asyncio.gather(*(written(llm, input.text, input.texts, near) for near in (False, True)))
    if min(len(firing), len(near)) < LEAST:
        raise ToolError(
            f"{llm.endpoints[Role.EXPLAINER].model} wrote {len(firing)} texts and {len(near)} near misses, and a score "
            f"needs {LEAST} of each: name another explainer, or ask again with another seed."
        )
    stats = harvest.stats()
    rng = context.rng("score_generation", input.latent)
    active = [int(index) for index in stats.count.nonzero()[0] if index != input.latent] or [input.latent]
    other = int(rng.choice(active))
    peaks = [await alone(peak, context, text, (input.latent, other)) for text in (*firing, *near)]
    own, others = ([each[i] for each in peaks] for i in (0, 1))
    n = len(firing)
    interval = auroc_interval(own[:n], own[n:], rng)
    floor = await _floor(context, llm, input) if input.floor_text else None
    threshold = FIRES * float(stats.max[input.latent])
    fires = wilson(sum(value >= threshold for value in own[:n]), n)
    misfires = wilson(sum(value >= threshold for value in own[n:]), len(near))
    other_fires = sum(value >= FIRES * float(stats.max[other]) for value in others) / len(others)
    controls = Controls(random_latent=other, auroc=auroc(others[:n], others[n:]), fires=other_fires)
    return Output(
        latent=str(latent),
        judge=llm.endpoints[Role.EXPLAINER].model,
        **interval._asdict(),
        chance=CHANCE,
        floor=floor,
        n=len(own),
        unparsed=2 * input.texts - len(own),
        fires=fires.value,
        fires_low=fires.low,
        fires_high=fires.high,
        misfires=misfires.value,
        texts=tuple(
            Written(text=text, should_fire=i < n, peak=own[i], other_peak=others[i])
            for i, text in enumerate((*firing, *near))
        ),
        controls=controls,
        verdict=_verdict(interval, floor, fires, misfires, controls),
    )


def _verdict(value: Interval, floor: float | None, fires: Interval, misfires: Interval, controls: Controls) -> str:
    bars = {"chance": CHANCE, "its control": controls.auroc} | ({} if floor is None else {"its floor": floor})
    missed = [name for name, bar in bars.items() if value.low <= bar]
    return (
        f"fires on {fires.value:.0%} of the texts written to fire it and on {misfires.value:.0%} of the near misses: "
        f"AUROC {value.value:.2f} [{value.low:.2f}, {value.high:.2f}]; latent {controls.random_latent} on the same "
        f"texts {controls.auroc:.2f}"
        + ("" if floor is None else f", texts written from another explanation {floor:.2f}")
        + f": {'not ' if missed else ''}clear of {' and '.join(missed or bars)}"
    )


async def _floor(context: Context, llm: LLM, input: Input) -> float | None:
    """AUROC of the latent on texts written from the other explanation; None when too few came."""
    assert input.floor_text is not None
    firing, near = await asyncio.gather(*(written(llm, input.floor_text, input.texts, near) for near in (False, True)))
    if not firing or not near:
        return None
    peaks = [await alone(peak, context, text, (input.latent,)) for text in (*firing, *near)]
    return auroc([p for (p,) in peaks[: len(firing)]], [p for (p,) in peaks[len(firing) :]])


async def written(llm: LLM, explanation: str, n: int, near_miss: bool) -> list[str]:
    """Up to `n` different texts, a few at a time; fewer when replies cannot be read."""
    wanted = [min(TOGETHER, n - start) for start in range(0, n, TOGETHER)]
    found: list[str] = []
    values = [
        {"explanation": explanation, "n": k, "near_miss": near_miss, "style": STYLES[i % len(STYLES)]}
        for i, k in enumerate(wanted)
    ]
    for answer in await llm.ask_many(Role.EXPLAINER, "write_texts", values, schema=Texts):
        if not isinstance(answer, NoAnswer) and isinstance(answer.parsed, Texts):
            found += [" ".join(text.split()) for text in answer.parsed.texts]
    return [text for text in dict.fromkeys(found) if text][:n]


def peak(context: Context, text: str, latents: tuple[int, ...]) -> list[float]:
    """The highest activation of each latent over the text's tokens, sinks left out."""
    parts = [part[:, list(latents)].amax(0) for part in read_text(context.subject, text).encoded()]
    highest: list[float] = [max(values) for values in zip(*(part.tolist() for part in parts), strict=True)]
    return highest
