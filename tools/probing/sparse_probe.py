"""How few latents or neurons tell a label, beside as few coordinates of the residual stream, plain and rotated."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tools.workbench.activations import read_activations
from tools.workbench.charts import Line, Lines
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.decoding import RANDOMS, SHUFFLES, Split, graded, surface_baselines
from tools.workbench.labelled import Labelled, check_counts, gather, texts_of
from tools.workbench.pictures import Picture, draw
from tools.workbench.probe_reports import OnSurface
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.sites import At, named
from tools.workbench.sparse_probes import SparseScore, chosen_units, one_unit, rotated, scored
from tools.workbench.splits import shuffled
from tools.workbench.stats import Interval

FITS = 2.0  # seconds


class Input(Labelled):
    """The texts, which units, and how many of them. layer: of neurons, by default where the dictionary reads."""

    unit: Literal["latent", "neuron"] = "latent"
    layer: int | None = Field(None, ge=0)
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 5, 10), min_length=1, max_length=8)
    position: Literal["mean"] | int = "mean"


class Size(ToolOutput):
    """A logistic probe of the `size` units whose means differ most, with its AUROC on the held-out texts and the 95 %
    interval; and of as many coordinates of the residual stream there, and of as many after random rotations (mean)."""

    size: int
    units: tuple[int, ...]
    auroc: float
    low: float
    high: float
    f1: float
    raw: float
    rotated: float


class Controls(OnSurface):
    """AUROC with one unit on the same held-out texts: chosen by shuffled labels (mean of eight); one at random that is
    active (median of twenty). whole: a logistic probe of the whole residual stream there. And the text's surface."""

    shuffled: float
    random_unit: float
    whole: float


class Output(ToolOutput):
    """privileged: whether one unit tells more than one coordinate, plain or rotated: else the basis is nothing special
    and a single unit no finding."""

    sizes: tuple[Size, ...]
    n: int
    fitted_on: int
    active: int = Field(description="units that are active on any text")
    leaks: str
    controls: Controls
    privileged: bool
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every text is read once, then the fits."""
    return pace(context.subject).reading(context.subject, texts_of(input, context), input.chat) + FITS


@tool(version=2, estimate=estimate)
def sparse_probe(input: Input, context: Context) -> Output:
    """Is a label told by one latent or neuron, or a few? Their numbers are the result, to be tested by ablation.

    Beside them stand as few coordinates of the residual stream, as they are and randomly rotated: with hundreds of
    units one of them tells something by chance. Sources: Gurnee et al. 2305.01610, sections 3 and 4; Kantamneni et al.
    2502.16681.
    """
    subject = context.subject
    data = gather(context, input)
    layer = subject.layer_of(subject.hook) if input.layer is None else input.layer
    site: At = (input.unit, layer)
    raw: At = named(subject, subject.hook) if input.unit == "latent" else ("resid_pre", layer)
    readings = read_activations(context, data.cases, [site, raw], surface=True)
    data = data.kept(readings.read)
    check_counts(data.positive, data.labels)
    units, stream = (readings.values[each][readings.read].astype(np.float64) for each in (site, raw))
    rng = context.rng("sparse_probe", input.model_dump_json())
    split = Split.of(data.positive, data.groups, rng)
    assert readings.surface is not None
    surface = surface_baselines(readings.surface[readings.read], data.texts, split, rng)
    most = min(units.shape[1], stream.shape[1])
    sizes = sorted({size for size in input.sizes if size <= most})
    if not sizes:
        raise ToolError(f"There are {most} coordinates to compare with: name sizes of at most as many.")
    own = [scored(units, split, size, rng) for size in sizes]
    beside = [scored(stream, split, size, rng).own.value for size in sizes]
    turned = rotated(stream, split, sizes, rng)
    by_shuffled, at_random = _by_chance(units, split, rng)
    controls = Controls(
        shuffled=by_shuffled,
        random_unit=at_random,
        whole=graded("logistic", stream, split, rng).own.value,
        **OnSurface.fields(surface),
    )
    first = own[0].own
    privileged = first.low > max(beside[0], turned[0])
    clear = first.low > max(0.5, controls.shuffled, controls.random_unit, surface.best)
    verdict = _verdict(input, own[0], data.labels, beside[0], turned[0], controls, privileged, clear)
    if data.leaks:
        verdict += f"; {data.leaks}"
    name = f"{' against '.join(data.labels)}{f' in {input.dataset}' if input.dataset else ''}"
    return Output(
        sizes=tuple(
            Size(
                size=size,
                units=each.units,
                auroc=each.own.value,
                low=each.own.low,
                high=each.own.high,
                f1=each.f1,
                raw=plain,
                rotated=turn,
            )
            for size, each, plain, turn in zip(sizes, own, beside, turned, strict=True)
        ),
        n=int(split.test.sum()),
        fitted_on=int((~split.test).sum()),
        active=int((units != 0).any(0).sum()),
        leaks=data.leaks,
        controls=controls,
        privileged=privileged,
        clear=clear,
        verdict=verdict,
        pictures=draw(
            context,
            "sparse_probe",
            input,
            sizes=_picture(name, input.unit, sizes, [each.own for each in own], beside, turned, controls, verdict),
        ),
    )


def _by_chance(units: np.ndarray, split: Split, rng: np.random.Generator) -> tuple[float, float]:
    """AUROC of one unit chosen by shuffled labels, and of one at random."""
    dealt = []
    for _ in range(SHUFFLES):
        labels = split.positive.copy()
        labels[~split.test] = shuffled(labels[~split.test], rng)
        chosen = chosen_units(units[~split.test], labels[~split.test], 1)[0]
        dealt.append(one_unit(units[:, chosen], split, labels))
    active = np.flatnonzero(units[~split.test].std(0) > 0)
    drawn = rng.choice(active, min(RANDOMS, len(active)), replace=False)
    random = [one_unit(units[:, unit], split, split.positive) for unit in drawn]
    return float(np.mean(dealt)), float(np.median(random))


def _verdict(
    input: Input,
    one: SparseScore,
    labels: tuple[str, str],
    raw: float,
    rotated: float,
    controls: Controls,
    privileged: bool,
    clear: bool,
) -> str:
    units = ", ".join(map(str, one.units))
    basis = "privileged" if privileged else "not shown to be privileged"
    return (
        f"{input.unit} {units} alone tells {' from '.join(labels)} with an AUROC of {one.own.value:.2f} "
        f"[{one.own.low:.2f}, {one.own.high:.2f}]; as many coordinates of the residual stream {raw:.2f}, of the "
        f"rotated stream {rotated:.2f}, so the basis is {basis}; the "
        f"whole stream {controls.whole:.2f}, shuffled labels {controls.shuffled:.2f}, the word {controls.word!r} "
        f"{controls.best_word:.2f}, the text's surface {controls.surface:.2f}: "
        f"{'clear' if clear else 'not clear'} of its controls"
    )


def _picture(
    name: str,
    unit: str,
    sizes: list[int],
    own: list[Interval],
    raw: list[float],
    turned: list[float],
    controls: Controls,
    foot: str,
) -> Picture | None:
    if len(sizes) < 2:
        return None
    x = tuple(map(float, sizes))
    value, low, high = (tuple(column) for column in zip(*own, strict=True))
    lines = (
        Line(f"{unit}s", x, value, low, high),
        Line("residual coordinates", x, tuple(raw), beside=True),
        Line("rotated coordinates", x, tuple(turned), beside=True),
        Line("the whole residual stream", x, (controls.whole,) * len(x), beside=True),
        Line("length, rarity, log-probability", x, (controls.surface,) * len(x), beside=True),
    )
    return Picture(f"How few tell {name}", Lines(lines, f"{unit}s used", level=0.5), "AUROC on held-out texts", foot)
