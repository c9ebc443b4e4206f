"""Looks for words of a known order on a circle or a line: a feature of more than one dimension."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from tools.workbench.activations import Case, hook_of, read_activations
from tools.workbench.charts import Points
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.labelled import locate
from tools.workbench.manifolds import Shape, chance, neighbours, order_on, placed, plane, radius_variation
from tools.workbench.metrics import encode, single_tokens
from tools.workbench.pictures import Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.sites import At
from tools.workbench.templates import WORDS

EVERY = 3  # layers of a sweep that names none
SURE = 0.05
ORDERS = 20  # of unrelated words, and random planes
TEMPLATES = ("They spoke about {}", "It happened last {}", "We will be there by {}", "I always think of {}")


class Input(ToolInput):
    """Words in their order, such as the days of the week, and texts with {} where each stands; every word must be one
    token after a space. layers: "all", or those named; by default every third."""

    items: tuple[str, ...] = Field(min_length=5, max_length=60)
    templates: tuple[str, ...] = Field(TEMPLATES, min_length=2, max_length=16)
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
    """The share of neighbours in place: of as many unrelated words at the same layer (mean of twenty orders); of the
    items on a random plane (mean of twenty)."""

    random_words: float
    random_plane: float


class Output(ToolOutput):
    """plane: names of the two saved directions that span it. found: the items as they come around, or along."""

    layer: int
    order: float
    chance: float
    spread: float
    plane: tuple[str, str]
    found: tuple[str, ...]
    layers: tuple[LayerOrder, ...]
    controls: Controls
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every word is read in every text, and as many unrelated ones."""
    texts = [template.replace("{}", item) for template in input.templates for item in input.items]
    return 1 + 2 * pace(context.subject).reading(context.subject, texts)


@tool(version=1, estimate=estimate)
def find_manifold(input: Input, context: Context) -> Output:
    """Do words of a known order lie on a circle, such as the days of the week, or on a line?

    The plane is found by PCA on half of the texts and graded on the others: which share of neighbours is in place, with
    the chance of as much in random order. One direction cannot tell a circle; edit both. Source: Engels et al.
    2405.14860, section 4.
    """
    subject = context.subject
    if len(set(input.items)) < len(input.items):
        raise ToolError("A word is named twice: name each once, in their order.")
    layers = list(range(subject.n_layers)) if input.layers == "all" else sorted(set(input.layers))
    sites: list[At] = [("resid_pre", layer) for layer in layers or range(0, subject.n_layers, EVERY)]
    rng = context.rng("find_manifold", input.model_dump_json())
    values = _read(context, input.items, input.templates, sites)
    half = len(input.templates) // 2
    rows: dict[At, LayerOrder] = {}
    planes: dict[At, np.ndarray] = {}
    for site in sites:
        axes, share = plane(values[site][:half].mean(0))
        first, second = (placed(part.mean(0), axes) for part in (values[site][:half], values[site][half:]))
        order = neighbours(order_on(second, input.shape), input.shape)
        planes[site] = axes
        rows[site] = LayerOrder(
            layer=site[1],
            fitted=neighbours(order_on(first, input.shape), input.shape),
            order=order,
            chance=chance(order, len(input.items), input.shape, rng),
            first_axis=neighbours(order_on(second, "line"), "line"),
            spread=radius_variation(second),
            share=share,
        )
    best = max(sites, key=lambda site: (rows[site].fitted, -rows[site].spread))
    points = placed(values[best][half:].mean(0), planes[best])
    found = tuple(input.items[at] for at in order_on(points, input.shape))
    own = rows[best]
    controls = Controls(
        random_words=_unrelated(context, input, best, rng),
        random_plane=float(
            np.mean(
                [
                    neighbours(order_on(placed(values[best][half:].mean(0), random), input.shape), input.shape)
                    for random in rng.normal(size=(ORDERS, 2, subject.d_model))
                ]
            )
        ),
    )
    clear = own.chance < SURE and own.order > max(controls.random_words, controls.random_plane)
    verdict = (
        f"entering layer {own.layer}, {own.order:.0%} of neighbours are in place on a {input.shape} (on texts that the "
        f"plane was not found on); chance of as much {own.chance:.2g}, unrelated words {controls.random_words:.0%}, a "
        f"random plane {controls.random_plane:.0%}; along one axis {own.first_axis:.0%}; the distances from the centre "
        f"vary by {own.spread:.0%}: {'clear' if clear else 'not clear'} of its controls"
    )
    shape = Points(
        input.items,
        tuple(float(x) for x in points[:, 0]),
        tuple(float(y) for y in points[:, 1]),
        input.shape == "circle",
    )
    return Output(
        layer=own.layer,
        order=own.order,
        chance=own.chance,
        spread=own.spread,
        plane=_saved(context, best, planes[best]),
        found=found,
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
    subject = context.subject
    single_tokens(subject, [f" {item}" for item in items])
    cases = []
    for template in templates:
        if template.count(" {}") != 1:
            raise ToolError(f"{template!r} must hold {{}} once, after a space: write it where the word stands.")
        for item, ids in zip(items, encode(subject, [template.replace("{}", item) for item in items]), strict=True):
            span = tuple(locate(subject, ids, item))
            cases.append(Case(tuple(ids), span[-1:], span))
    found = read_activations(context, cases, sites)
    if not found.read.all():
        raise ToolError("One of the words is an attention sink there: name other words or texts.")
    stacked = {site: x.astype(np.float64).reshape(len(templates), len(items), -1) for site, x in found.values.items()}
    return {site: x - x.mean(1, keepdims=True) for site, x in stacked.items()}


def _unrelated(context: Context, input: Input, site: At, rng: np.random.Generator) -> float:
    """The score of as many common nouns, mean over orders drawn at random."""
    nouns = [word for word in WORDS if len(context.subject.tokenize([f" {word}"])[0]) == 1 and word not in input.items]
    words = tuple(str(word) for word in rng.permutation(nouns)[: len(input.items)])
    values = _read(context, words, input.templates, [site])[site]
    half = len(input.templates) // 2
    axes, _ = plane(values[:half].mean(0))
    points = placed(values[half:].mean(0), axes)
    orders = [rng.permutation(len(points)) for _ in range(ORDERS)]
    return float(np.mean([neighbours(order_on(points[order], input.shape), input.shape) for order in orders]))


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
