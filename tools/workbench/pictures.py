"""Pictures of what was found, as PNG and SVG beside the ledger: heat maps, bars, circuits, curves and
histograms.

How to use it: a tool's output has `pictures: tuple[str, ...]`, which `draw(context, name, input, map=Picture(...))`
fills: paths relative to the workspace, by a name that depends on what was asked alone, so that a run made again names
the same files. Colours are on a scale symmetric about zero, text is cleaned, the line at the foot is for the controls.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from pydantic import BaseModel

from store.disk import appearing
from store.ids import content_hash
from store.text import clean
from tools.workbench.charts import (
    Cloud,
    Histograms,
    Lines,
    Points,
    draw_cloud,
    draw_histograms,
    draw_lines,
    draw_points,
)
from tools.workbench.context import Context
from tools.workbench.figures import HeatMap
from tools.workbench.registry import get_tool

FOLDER = "pictures"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "glossator",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "DejaVu Sans",
}
NOTHING = "#d4d4d4"  # a cell without a value
BESIDE, UP, DOWN, INK = "#94a3b8", "#b2182b", "#2166ac", "#334155"
LARGEST = 18.0  # inches
FOOT_LINE = 0.17  # inches of each line at the foot after the first
SHORT = 24  # characters of a label
LABELS = 64  # of an axis
FAINTEST = 0.45  # colour of a weight near zero, so that its line is seen
ZIGZAG = (-0.5, 1.5, -1.5, 0.5, 2.2, -2.2)


class Bar(NamedTuple):
    """A value with the ends of its interval, if it has one; `beside`: a control or an estimate."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    beside: bool = False


class Bars(NamedTuple):
    bars: tuple[Bar, ...]


class Arrow(NamedTuple):
    sender: str
    receiver: str
    weight: float


class Circuit(NamedTuple):
    """layers: of every node, to draw it at its height, the first at the foot. reads: key heads and the heads that read
    them, which are joined by a thin line."""

    arrows: tuple[Arrow, ...]
    layers: dict[str, int]
    reads: tuple[tuple[str, str], ...] = ()


Figured = HeatMap | Bars | Circuit | Lines | Histograms | Points | Cloud


class Picture(NamedTuple):
    """measure: what the numbers are. controls: a sentence that stands below."""

    title: str
    figure: Figured
    measure: str
    controls: str = ""


def draw(context: Context, tool: str, input: BaseModel, **pictures: Picture | None) -> tuple[str, ...]:
    """Draws and keeps each picture that there is; their paths in the workspace."""
    asked = [tool, get_tool(tool).version, context.fingerprint, context.seed, input.model_dump(mode="json")]
    workspace = context.ledger.store.path.parent
    paths = []
    for name, picture in pictures.items():
        if picture is None:
            continue
        own = [Path(FOLDER, f"{content_hash([*asked, name])}.{kind}") for kind in ("png", "svg")]
        save(picture, *(workspace / path for path in own))
        paths += [path.as_posix() for path in own]
    return tuple(paths)


def save(picture: Picture, *paths: Path) -> None:
    """Draws the picture, laid out once, to .png and .svg files."""
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that the font does not have are drawn as boxes
        figure = _figure(picture)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = path.suffix[1:]
            # no date and no version, so that equal pictures are equal files
            metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
            with appearing(path) as part:
                figure.savefig(part, format=kind, dpi=130, bbox_inches="tight", pad_inches=0.15, metadata=metadata)


def _figure(picture: Picture) -> Figure:
    shape, measure = picture.figure, clean(picture.measure)
    size = _size(shape)
    wide = int(size[0] * 13)
    foot = fill(clean(picture.controls), int(wide * 1.15))
    figure = Figure(figsize=(size[0], size[1] + FOOT_LINE * foot.count("\n")), layout="constrained")
    axes = figure.add_subplot()
    beside = fill(measure, min(40, int(8 * size[1])))  # it stands upright
    match shape:
        case HeatMap():
            _heat_map(axes, shape, beside)
        case Bars():
            _bars(axes, shape, measure)
        case Circuit():
            _circuit(axes, shape, beside)
        case Lines():
            draw_lines(axes, shape, measure)
        case Histograms():
            draw_histograms(axes, shape, measure)
        case Points():
            draw_points(axes, shape, measure)
        case Cloud():
            draw_cloud(axes, shape, measure)
    figure.suptitle(fill(clean(picture.title), wide), fontsize=10, x=0.01, ha="left")
    if foot:
        figure.supxlabel(foot, fontsize=8, color=INK, x=0.01, ha="left")
    return figure


def _size(shape: Figured) -> tuple[float, float]:
    """Inches across and up."""
    match shape:
        case HeatMap():
            across, up = 0.24 * len(shape.columns) + 1.8, 0.17 * len(shape.rows) + 1.6
        case Bars():
            across, up = 7.0, 0.24 * len(shape.bars) + 0.8
        case Lines() | Histograms():
            across, up = 7.5, 3.6
        case Points() | Cloud():
            across, up = 5.5, 5.0
        case Circuit():
            x, y = zip(*layout(shape).values(), strict=True)
            across, up = max(x) - min(x) + 3.0, 0.6 * max(y) + 1.8
    return min(LARGEST, max(5.5, across)), min(LARGEST, max(1.5, up))


def _heat_map(axes: Axes, shape: HeatMap, measure: str) -> None:
    values = np.array([[np.nan if v is None else v for v in line] for line in shape.values], float)
    colours = colormaps["RdBu_r"].with_extremes(bad=NOTHING)
    scale = _scale(values[np.isfinite(values)])
    image = axes.imshow(values, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    for axis, names, angle in ((axes.xaxis, shape.columns, 60), (axes.yaxis, shape.rows, 0)):
        every = -(-len(names) // LABELS)
        axis.set_ticks(range(0, len(names), every), [_short(name) for name in names[::every]], rotation=angle)
        axis.set_tick_params(length=2, labelsize=7)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    _legend(axes, image, measure)


def _bars(axes: Axes, shape: Bars, measure: str) -> None:
    places = np.arange(len(shape.bars))[::-1]
    colours = [BESIDE if bar.beside else UP if bar.value >= 0 else DOWN for bar in shape.bars]
    axes.barh(places, [bar.value for bar in shape.bars], color=colours, height=0.7)
    for place, bar in zip(places, shape.bars, strict=True):
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [place, place], color=INK, linewidth=1.2)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set_yticks(places, [_short(bar.label, 2 * SHORT) for bar in shape.bars], fontsize=8)
    axes.set_xlabel(measure, fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _circuit(axes: Axes, shape: Circuit, measure: str) -> None:
    places = layout(shape)
    scale = _scale(np.array([arrow.weight for arrow in shape.arrows]))
    most = float(scale.vmax or 1.0)
    colours = colormaps["RdBu_r"]
    for arrow in sorted(shape.arrows, key=lambda arrow: abs(arrow.weight)):
        share = arrow.weight / most
        colour = colours(0.5 + 0.5 * float(np.sign(share)) * max(abs(share), FAINTEST))
        style = {"arrowstyle": "-|>", "color": colour, "lw": 0.6 + 3 * abs(share) ** 0.5, "shrinkA": 10, "shrinkB": 10}
        ends = places[arrow.receiver], places[arrow.sender]
        axes.annotate("", *ends, arrowprops=style | {"connectionstyle": "arc3,rad=0.08"}, zorder=1 + abs(share))
    for key, head in shape.reads:
        style = {"arrowstyle": "-", "color": BESIDE, "lw": 0.8, "shrinkA": 10, "shrinkB": 10}
        axes.annotate("", places[head], places[key], arrowprops=style)
    for name, (x, y) in places.items():
        box = {"boxstyle": "round,pad=0.3", "fc": "#f1f5f9", "ec": INK}
        axes.text(x, y, _short(name), ha="center", va="center", fontsize=8, bbox=box, zorder=3)
    across, up = zip(*places.values(), strict=True)
    axes.set_xlim(min(across) - 0.6, max(across) + 0.6)
    axes.set_ylim(min(up) - 0.5, max(up) + 0.5)
    axes.set_axis_off()
    _legend(axes, ScalarMappable(scale, colours), measure)


def layout(shape: Circuit) -> dict[str, tuple[float, float]]:
    """Where each node stands: at its layer's height, ordered by its neighbours below, lonely ones in a zigzag."""
    senders: defaultdict[str, list[str]] = defaultdict(list)
    for arrow in shape.arrows:
        senders[arrow.receiver].append(arrow.sender)
    for key, head in shape.reads:
        senders[head].append(key)
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for name, layer in sorted(shape.layers.items()):
        rows[layer].append(name)
    places: dict[str, tuple[float, float]] = {}
    for height, (_, row) in enumerate(sorted(rows.items())):
        below = {name: [places[other][0] for other in senders[name] if other in places] for name in row}
        row.sort(key=lambda name: (float(np.mean(below[name] or [0.0])), name))
        at_end = height in (0, len(rows) - 1)
        middle = 0.0 if at_end else ZIGZAG[height % len(ZIGZAG)]
        for at, name in enumerate(row):
            places[name] = (middle + 1.1 * (at - (len(row) - 1) / 2), float(height))
    return places


def _scale(values: np.ndarray) -> Normalize:
    most = float(np.abs(values).max()) if len(values) else 0.0
    return Normalize(-(most or 1.0), most or 1.0)


def _legend(axes: Axes, shown: ScalarMappable, measure: str) -> None:
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.02, shrink=0.8, aspect=30)
    bar.set_label(measure, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _short(label: str, most: int = SHORT) -> str:
    whole = clean(label).strip() or (repr(clean(label)) if label else "")
    return whole if len(whole) <= most else whole[: most - 1] + "…"


NODE = re.compile(r"L(\d+)(H|KV|MLP)")


def circuit(edges: Iterable[tuple[str, float]], shared: int = 1) -> Circuit:
    """Of edges spelled as in L5H3->L23H0.q; queries, keys and values of a head are drawn as one. shared: how many heads
    read a key head (L23KV1), which stands below those of them that are drawn."""
    arrows: dict[tuple[str, str], float] = {}
    for edge, weight in edges:
        sender, _, receiver = edge.partition("->")
        ends = sender, receiver.partition(".")[0]
        arrows[ends] = arrows.get(ends, 0.0) + weight
    layers = {name: _height(name) for ends in arrows for name in ends}
    keys = [re.fullmatch(r"(L\d+)KV(\d+)", name) for name in layers]
    reads = [(key[0], f"{key[1]}H{int(key[2]) * shared + at}") for key in keys if key for at in range(shared)]
    return Circuit(
        tuple(Arrow(*ends, weight) for ends, weight in arrows.items()),
        layers,
        tuple((key, head) for key, head in reads if head in layers),
    )


def _height(name: str) -> int:
    """The embedding, then of each layer key heads, heads and MLP, then the logits."""
    if found := NODE.fullmatch(re.sub(r"(?<=[HV])\d+$", "", name)):
        return 3 * int(found[1]) + ("KV", "H", "MLP").index(found[2])
    return -1 if name == "embed" else 10**6


def controls_said(controls: BaseModel) -> str:
    """The numbers among a tool's controls, in a line."""
    found: Sequence[str] = [
        f"{name.replace('_', ' ')} {round(value, 4) + 0.0:+.3g}"
        for name, value in controls.model_dump().items()
        if isinstance(value, int | float)
    ]
    return f"Controls: {'; '.join(found)}."
