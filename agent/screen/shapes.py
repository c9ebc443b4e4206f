"""What a tool found, as pictures, read off the shape of its output: no tool is known by name.

an object with "tokens" and "activations"            the text, highlighted where the latent fires; with a "scale", by it
a list of objects with a "strength" and an "effect"  a curve with its intervals, the controls' beside it
a list of objects with a "layer" and an "auroc"      a curve by layer, a curve a "place" where they have one
an object with a "value" and an "effect"             a bar, the controls' below it
an object with "rows", "columns" and "values"        a heat map, a value a cell
the "controls", as far as they are numbers           bars
a list of objects "with_cause" and "without_cause"   two bars a pair of texts
a list of objects with a "count" between two ends    bars: a histogram
a list of objects with a "text"                      the texts
a list of objects with a name and a number           bars
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN, BARS = 6, 12  # of a list
SIDES = (("+", "text", "with"), ("-", "other", "without"))  # of a minimal pair: its sign, its text, its name
MEASURES = ("effect", "exact", "value", "total", "change")  # before any other: the ledger keeps no order
BASELINES = ("shuffled", "random_direction")  # of a probe, on the same texts
NAMES = ("site", "edge", "sender", "part", "index", "token", "label", "name", "latent")
Output = Mapping[str, Any]
Point = tuple[float, float, float | None, float | None]  # x, y and the ends of its interval, if it has one


@dataclass(frozen=True)
class Reading:
    """A text by tokens, with an activation each, 0 or more; scale: what is shaded fully (None: the highest of them)."""

    tokens: Sequence[str]
    activations: Sequence[float]
    scale: float | None = None


@dataclass(frozen=True)
class Bar:
    """`beside`: a control, or a text without the supposed cause."""

    label: str
    value: float
    beside: bool = False


@dataclass(frozen=True)
class Bars:
    """`measure`: what their lengths are."""

    rows: Sequence[Bar]
    measure: str


@dataclass(frozen=True)
class Curve:
    """`y` by `x`; the controls' points are `beside`, by name."""

    name: str
    points: Sequence[Point]
    beside: Mapping[str, Sequence[Point]]
    x: str = "strength"
    y: str = "effect"


@dataclass(frozen=True)
class HeatMap:
    """`values` [rows, columns]; None where nothing was measured."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Texts:
    texts: Sequence[str]


Figure = Reading | Bars | Curve | HeatMap | Texts


def figures(output: Output) -> Iterator[tuple[str, list[Figure]]]:
    """The figures of a tool's output, each list under the name of its field."""
    controls = output.get("controls")
    for name, value in output.items():
        found = list(_figures(name, value, controls if isinstance(controls, Mapping) else {}))
        if found:
            yield spaced(name), found


def spaced(name: str) -> str:
    return name.replace("_", " ")


def _figures(name: str, value: Any, controls: Output) -> Iterator[Figure]:
    if isinstance(value, Mapping):
        if _is_reading(value):
            yield Reading(value["tokens"], value["activations"], value.get("scale"))
        elif _is_map(value):
            yield HeatMap([str(row) for row in value["rows"]], [str(c) for c in value["columns"]], value["values"])
        elif _is_effect(value):
            beside = [Bar(spaced(key), each["effect"], True) for key, each in controls.items() if _is_effect(each)]
            yield Bars([Bar(spaced(name), value["effect"]), *beside], "effect")
        else:
            if name == "controls":  # those drawn beside what they control are left out
                value = {k: v for k, v in value.items() if not _is_effect(v) and not _points(v)}
                if bars := [Bar(spaced(k), v, True) for k, v in value.items() if isinstance(v, float)]:  # no counts
                    yield Bars(bars, "the same measure where little should be found")
            yield from (figure for _, found in figures(value) for figure in found)
    elif points := _points(value):
        yield Curve(spaced(name), points, {spaced(k): other for k, v in controls.items() if (other := _points(v))})
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        yield from _by_layer(name, value) if all({"layer", "auroc"} <= item.keys() for item in value) else _list(value)


def _by_layer(name: str, items: Sequence[Output]) -> Iterator[Figure]:
    """A probe's AUROC by layer, that of shuffled labels and random directions beside it."""
    for place in dict.fromkeys(item.get("place") for item in items):
        rows = [item for item in items if item.get("place") == place]
        points = [(row["layer"], row["auroc"], row.get("low"), row.get("high")) for row in rows]
        beside = {
            spaced(key): [(row["layer"], row[key], None, None) for row in rows]
            for key in BASELINES
            if all(_is_number(row.get(key)) for row in rows)
        }
        yield Curve(spaced(place or name), points, beside, "layer", "AUROC")


def _list(items: Sequence[Output]) -> Iterator[Figure]:
    if all({"with_cause", "without_cause"} <= item.keys() for item in items):
        yield Bars([bar for at, pair in enumerate(items, 1) for bar in _pair(at, pair)], "highest activation")
    elif all(isinstance(item.get("text"), str) for item in items):
        yield Texts([item["text"] for item in items[:SHOWN]])
    elif all({"low", "high", "count"} <= item.keys() for item in items):
        yield Bars(_histogram(items), "count")
    elif bars := _named(items):
        yield bars
    else:
        for item in items[:SHOWN]:
            yield from _figures("", item, {})


def _pair(at: int, pair: Output) -> tuple[Bar, Bar]:
    """The text with the supposed cause above the one without, told apart by a sign where they are cut; older rows hold
    no texts."""
    with_cause, without = (f"{at}{sign} {pair.get(text, name)}" for sign, text, name in SIDES)
    return Bar(with_cause, pair["with_cause"]), Bar(without, pair["without_cause"], True)


def _named(items: Sequence[Output]) -> Bars | None:
    """Objects that have a name and a number each."""
    name = next((name for name in NAMES if all(isinstance(item.get(name), str | int) for item in items)), None)
    values = [key for key in (*MEASURES, *items[0]) if key != name and isinstance(items[0].get(key), float)]
    value = next((key for key in values if all(_is_number(item.get(key)) for item in items)), None)
    if name is None or value is None:
        return None
    labels = [str(item[name]) for item in items[:BARS]]
    if any(label != label.strip() for label in labels):  # all in quotation marks where a space would else not be seen
        labels = [repr(label) for label in labels]
    return Bars([Bar(label, float(item[value])) for label, item in zip(labels, items, strict=False)], spaced(value))


def _histogram(bins: Sequence[Output]) -> list[Bar]:
    """At most BARS bins, neighbours added together where there are more."""
    together = -(-len(bins) // BARS)
    groups = [bins[i : i + together] for i in range(0, len(bins), together)]
    return [Bar(f"{g[0]['low']:.3g} to {g[-1]['high']:.3g}", float(sum(b["count"] for b in g))) for g in groups]


def _points(items: Any) -> list[Point]:
    """The points of a dose-response curve; none for anything else."""
    if not isinstance(items, list) or not all(isinstance(i, Mapping) and _is_number(i.get("strength")) for i in items):
        return []
    found = [(item["strength"], item["effect"] if isinstance(item.get("effect"), Mapping) else item) for item in items]
    if not all(_is_number(effect.get("effect")) for _, effect in found):
        return []
    return [(strength, effect["effect"], effect.get("low"), effect.get("high")) for strength, effect in found]


def _is_reading(value: Output) -> bool:
    """Tokens with a number each."""
    tokens, activations = value.get("tokens"), value.get("activations")
    return isinstance(tokens, list) and isinstance(activations, list) and len(tokens) == len(activations) > 0


def _is_map(value: Output) -> bool:
    rows, columns, values = (value.get(name) for name in ("rows", "columns", "values"))
    if not (isinstance(rows, list) and isinstance(columns, list) and isinstance(values, list) and rows and columns):
        return False
    return len(values) == len(rows) and all(isinstance(line, list) and len(line) == len(columns) for line in values)


def _is_effect(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_number(value.get("value")) and _is_number(value.get("effect"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
