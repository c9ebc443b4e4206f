"""What a tool found, as a person likes to see it, read off the shape of its output: no tool is known by name.

an object with "tokens" and "activations"                  the text, highlighted where the latent fires
a list of objects with a name and a number                 bars
a list of objects with a count between two ends            bars: a histogram
a list of objects with two numbers, the first a strength   a curve, with its interval where there is one
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from agent.plot import Point, bars, curve, number
from agent.show import highlight, plain

TEXTS, BARS = 6, 10  # shown of a list
DOSES = ("strength", "dose", "scale", "alpha")
LOW, HIGH = "low", "high"
NAMES = ("index", "token", "label", "name", "text", "latent")


def figures(output: Mapping[str, Any], width: int, colour: bool) -> Iterator[RenderableType]:
    """The figures of a tool's output, each under the name of its field. `width` in cells."""
    for name, value in output.items():
        drawn = list(_draw(value, width - 2, colour))
        if drawn:
            yield Text(name.replace("_", " "), "dim italic")
            yield from (Padding(figure, (0, 0, 0, 2)) for figure in drawn)


def _draw(value: Any, width: int, colour: bool) -> Iterator[RenderableType]:
    if _is_reading(value):
        yield highlight(value["tokens"], value["activations"], colour=colour, cells=2 * width)
    elif isinstance(value, Mapping):
        yield from figures(value, width, colour)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        if points := _points(value):
            yield curve(points[1], width, *points[0])
        elif rows := _rows(value):
            yield bars(rows[:BARS], width)
        else:
            for item in value[:TEXTS]:
                yield from _draw(item, width, colour)


def _is_reading(value: Any) -> bool:
    """Tokens with a number each."""
    if not isinstance(value, Mapping):
        return False
    tokens, activations = value.get("tokens"), value.get("activations")
    return isinstance(tokens, list) and isinstance(activations, list) and len(tokens) == len(activations) > 0


def _points(items: list[Any]) -> tuple[tuple[str, str], list[Point]] | None:
    """Names of the axes and points, for objects with a strength and a number that depends on it."""
    dose = next((name for name in DOSES if all(_is_number(item.get(name)) for item in items)), None)
    if dose is None:
        return None
    effects = [name for name in items[0] if name not in (dose, LOW, HIGH)]
    effect = next((name for name in effects if all(_is_number(item.get(name)) for item in items)), None)
    if effect is None or len(items) < 2:
        return None
    return (dose, effect), [(item[dose], item[effect], item.get(LOW), item.get(HIGH)) for item in items]


def _rows(items: list[Any]) -> list[tuple[str, float]] | None:
    """Names and values, for objects that have one of each, or a count between two ends."""
    if all({LOW, HIGH, "count"} <= item.keys() for item in items):
        return _histogram(items)
    name = next((name for name in NAMES if all(isinstance(item.get(name), str | int) for item in items)), None)
    values = [key for key, value in items[0].items() if key != name and isinstance(value, float)]
    value = next((key for key in values if all(_is_number(item.get(key)) for item in items)), None)
    if name is None or value is None:
        return None
    return [(_shown(item[name]), float(item[value])) for item in items]


def _histogram(bins: list[Any]) -> list[tuple[str, float]]:
    """At most BARS bins, neighbours added together where there are more."""
    together = -(-len(bins) // BARS)
    groups = [bins[i : i + together] for i in range(0, len(bins), together)]
    return [(f"{number(g[0][LOW])} to {number(g[-1][HIGH])}", float(sum(b["count"] for b in g))) for g in groups]


def _shown(name: object) -> str:
    text = str(name)
    return plain(text).plain if text.strip() else repr(text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
