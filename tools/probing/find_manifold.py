"""Looks for words of a known order on a circle or a line: a feature of more than one dimension."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from tools.workbench.activations import hook_of
from tools.workbench.charts import Points
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.irreducible import Irreducible, irreducible
from tools.workbench.items import item_cases, read_items
from tools.workbench.manifolds import (
    Shape,
    chance,
    chance_where_best,
    neighbours,
    order_on,
    placed,
    plane,
    radius_variation,
)
from tools.workbench.pictures import Picture, draw
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.sites import At
from tools.workbench.templates import WORDS

EVERY = 3  # layers of a sweep that names none
SURE = 0.05
ORDERS = 20  # of unrelated words, and random planes
TEMPLATES = (
    "They spoke about {}", "It happened last {}", "We will be there by {}", "I always think of {}",
    "It lasted until {}", "We have waited since {}", "She told me about {}", "It all began last {}",
    "They will come back next {}", "The shop is closed until {}", "It was a cold {}", "He wrote down {}",
    "We met again the following {}", "The story ends with {}", "I have been here since {}", "It will be over by {}",
)  # fmt: skip


class Input(ToolInput):
    """Words in their order, such as the days of the week, and texts with {} where each stands; every word must be one
    token after a space. layers: "all", or those named; by default every third."""

    items: tuple[str, ...] = Field(min_length=5, max_length=60)
    templates: tuple[str, ...] = Field(TEMPLATES, min_length=2, max_length=32)
    shape: Shape = "circle"
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["all"] = ()


class LayerOrder(ToolOutput):
    """fitted: share of neighbours in place on the texts that the plane was found on, which the layer is chosen by;
    order: on the other texts; chance: of as much in random order. first_axis: along the plane's first axis alone.
    spread: of the distances from the centre over their mean, 0 on a circle. share: of the items' variance in the
    plane."""

    layer: int
    fitted: float
    order: float
    chance: float
    first_axis: float
    spread: float
    share: float


class Controls(ToolOutput):
    """The share of neighbours in place: of as many unrelated words, at most nineteen, at the same layer (mean of twenty
    orders); of the items on a random plane (mean of twenty). words_irreducible: the indices of the unrelated words' own
    plane."""

    random_words: float
    random_plane: float
    words_irreducible: Irreducible | None


class Output(ToolOutput):
    """order: on texts that neither plane nor layer was found on; chance: of as much in random order, at the layer that
    fits that order best. plane: names of the two saved directions that span it. found: the items as they come around,
    or along.
    irreducible: whether the held-out texts' points are one feature of two dimensions or two of one; None of fewer than
    25 points."""

    layer: int
    order: float
    chance: float
    spread: float
    plane: tuple[str, str]
    found: tuple[str, ...]
    irreducible: Irreducible | None
    layers: tuple[LayerOrder, ...]
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every word is read in every text, and as many unrelated ones."""
    texts = [template.replace("{}", item) for template in input.templates for item in input.items]
    return 1 + 2 * pace(context.subject).reading(context.subject, texts)


@tool(version=3, estimate=estimate)
def find_manifold(input: Input, context: Context) -> Output:
    """Do words of a known order lie on a circle, such as the days of the week, or on a line?

    The plane is found by PCA on half of the texts and graded on the others: which share of neighbours is in place, with
    the chance of as much in random order. Separability and mixture of their points say whether it is one feature of two
    dimensions; `edit_in_plane` says whether the model reads it. Source: Engels et al. 2405.14860, sections 3 and 4.
    """
    subject = context.subject
    layers = list(range(subject.n_layers)) if input.layers == "all" else sorted(set(input.layers))
    sites: list[At] = [("resid_pre", layer) for layer in layers or range(0, subject.n_layers, EVERY)]
    rng = context.rng("find_manifold", input.model_dump_json())
    values = _read(context, input.items, input.templates, sites)
    half = len(input.templates) // 2
    rows: dict[At, LayerOrder] = {}
    planes: dict[At, np.ndarray] = {}
    orders: dict[At, tuple[np.ndarray, np.ndarray]] = {}
    for site in sites:
        axes, share = plane(values[site][:half].mean(0))
        first, second = (placed(part.mean(0), axes) for part in (values[site][:half], values[site][half:]))
        orders[site] = order_on(first, input.shape), order_on(second, input.shape)
        fitted, order = (neighbours(each, input.shape) for each in orders[site])
        planes[site] = axes
        rows[site] = LayerOrder(
            layer=site[1],
            fitted=fitted,
            order=order,
            chance=chance(order, len(input.items), input.shape, rng),
            first_axis=neighbours(order_on(second, "line"), "line"),
            spread=radius_variation(second),
            share=share,
        )
    by_spread = sorted(sites, key=lambda site: rows[site].spread)
    best = max(by_spread, key=lambda site: rows[site].fitted)
    points = placed(values[best][half:].mean(0), planes[best])
    found = tuple(input.items[at] for at in order_on(points, input.shape))
    own = rows[best]
    fits, held = zip(*(orders[site] for site in by_spread), strict=True)
    by_chance = chance_where_best(fits, held, own.order, input.shape, rng)
    random_words, words_irreducible = _unrelated(context, input, best, rng)
    controls = Controls(
        random_words=random_words,
        random_plane=float(
            np.mean(
                [
                    neighbours(order_on(placed(values[best][half:].mean(0), random), input.shape), input.shape)
                    for random in rng.normal(size=(ORDERS, 2, subject.d_model))
                ]
            )
        ),
        words_irreducible=words_irreducible,
    )
    whole = irreducible(_points(values[best][half:], planes[best]), rng)
    clear = by_chance < SURE and own.order > max(controls.random_words, controls.random_plane)
    verdict = (
        f"entering layer {own.layer}, {own.order:.0%} of neighbours are in place on a {input.shape} (on texts that the "
        f"plane was not found on); chance of as much {by_chance:.2g}, unrelated words {controls.random_words:.0%}, a "
        f"random plane {controls.random_plane:.0%}; along one axis {own.first_axis:.0%}; the distances from the centre "
        f"vary by {own.spread:.0%}: {'clear' if clear else 'not clear'} of its controls"
    )
    if whole is not None:
        beside = f"; of the unrelated words' plane, {words_irreducible.words}" if words_irreducible else ""
        verdict += f"; its {whole.n} held-out points: {whole.words}{beside}"
    shape = Points(
        input.items,
        tuple(float(x) for x in points[:, 0]),
        tuple(float(y) for y in points[:, 1]),
        input.shape == "circle",
    )
    return Output(
        layer=own.layer,
        order=own.order,
        chance=by_chance,
        spread=own.spread,
        plane=_saved(context, best, planes[best]),
        found=found,
        irreducible=whole,
        layers=tuple(rows.values()),
        controls=controls,
        clear=clear,
        verdict=verdict,
        pictures=draw(
            context,
            "find_manifold",
            input,
            plane=Picture(f"The plane entering layer {own.layer}", shape, "residual stream, in its own units", verdict),
        ),
    )


def _read(
    context: Context, items: tuple[str, ...], templates: tuple[str, ...], sites: list[At]
) -> dict[At, np.ndarray]:
    """float64[templates, items, d_model] of each site, less each template's mean."""
    read = read_items(context, item_cases(context.subject, items, templates), len(items), sites)
    return {site: x - x.mean(1, keepdims=True) for site, x in read.items()}


def _points(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """float64[templates * items, 2]: every text's point on the plane."""
    return placed(values.reshape(-1, values.shape[-1]), axes)


def _unrelated(context: Context, input: Input, site: At, rng: np.random.Generator) -> tuple[float, Irreducible | None]:
    """Of as many common nouns: the score, mean over orders drawn at random, and the indices of their own plane."""
    nouns = [word for word in WORDS if len(context.subject.tokenize([f" {word}"])[0]) == 1 and word not in input.items]
    words = tuple(str(word) for word in rng.permutation(nouns)[: len(input.items)])
    values = _read(context, words, input.templates, [site])[site]
    half = len(input.templates) // 2
    axes, _ = plane(values[:half].mean(0))
    points = placed(values[half:].mean(0), axes)
    orders = [rng.permutation(len(points)) for _ in range(ORDERS)]
    score = float(np.mean([neighbours(order_on(points[order], input.shape), input.shape) for order in orders]))
    return score, irreducible(_points(values[half:], axes), rng)


def _saved(context: Context, site: At, axes: np.ndarray) -> tuple[str, str]:
    first, second = (
        context.directions.save(
            Direction(
                vector=torch.tensor(axis, dtype=torch.float32),
                model=context.subject.name,
                hook=hook_of(context.subject, site),
                method="find_manifold",
            )
        )
        for axis in axes
    )
    return first, second
