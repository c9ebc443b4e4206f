"""What a tool found, as a person likes to see it, read off the shape of its output: no tool is known by name.

an object with "tokens" and "activations"            the text, highlighted where the latent fires
a list of objects with a "strength" and an "effect"  a curve with its intervals, the controls' beside it
an object with a "value" and an "effect"             a bar, the controls' below it
a list of objects with a "count" between two ends    bars: a histogram
a list of objects with a "text"                      the texts
a list of objects with a name and a number           bars
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from agent.screen.plot import Point, bars, curve, number
from agent.screen.show import highlight, plain

SHOWN, BARS = 6, 12  # of a list
NAMES = ("index", "token", "label", "name", "latent")
Object = Mapping[str, Any]


def figures(output: Object, width: int, colour: bool) -> Iterator[RenderableType]:
    """The figures of a tool's output, each under the name of its field. `width` in cells."""
    controls = output.get("controls")
    for name, value in output.items():
        drawn = list(_draw(name, value, controls if isinstance(controls, Mapping) else {}, width - 2, colour))
        if drawn:
            yield Text(plain(name.replace("_", " ")).plain, "dim italic")
            yield from (Padding(figure, (0, 0, 0, 2)) for figure in drawn)


def _draw(name: str, value: Any, controls: Object, width: int, colour: bool) -> Iterator[RenderableType]:
    if isinstance(value, Mapping):
        if _is_reading(value):
            yield highlight(value["tokens"], value["activations"], colour=colour, cells=2 * width)
        elif _is_effect(value):
            beside = {key: other for key, other in controls.items() if _is_effect(other)}
            yield bars([(_spaced(key), each["effect"]) for key, each in {name: value, **beside}.items()], width)
        elif name == "controls":  # those drawn beside what they control are left out
            yield from figures({k: v for k, v in value.items() if not _is_effect(v) and not _points(v)}, width, colour)
        else:
            yield from figures(value, width, colour)
    elif points := _points(value):
        beside = {key: other for key, item in controls.items() if (other := _points(item))}
        yield curve(points, width, "strength", "effect", list(beside.values()))
        if beside:
            yield Text(f"● {_spaced(name)}   ○ {', '.join(map(_spaced, beside))}", "dim")
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        yield from _list(value, width, colour)


def _list(items: Sequence[Object], width: int, colour: bool) -> Iterator[RenderableType]:
    if all(isinstance(item.get("text"), str) for item in items):
        yield from (Text("“").append_text(plain(item["text"])).append("”") for item in items[:SHOWN])
    elif rows := _rows(items):
        yield bars(rows[:BARS], width)
    else:
        for item in items[:SHOWN]:
            yield from _draw("", item, {}, width, colour)


def _is_reading(value: Object) -> bool:
    """Tokens with a number each."""
    tokens, activations = value.get("tokens"), value.get("activations")
    return isinstance(tokens, list) and isinstance(activations, list) and len(tokens) == len(activations) > 0


def _is_effect(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_number(value.get("value")) and _is_number(value.get("effect"))


def _points(items: Any) -> list[Point]:
    """The points of a dose-response curve; none for anything else."""
    if not isinstance(items, list) or not all(isinstance(i, Mapping) and _is_number(i.get("strength")) for i in items):
        return []
    found = [(item["strength"], item["effect"] if isinstance(item.get("effect"), Mapping) else item) for item in items]
    if not all(_is_number(effect.get("effect")) for _, effect in found):
        return []
    return [(strength, effect["effect"], effect.get("low"), effect.get("high")) for strength, effect in found]


def _rows(items: Sequence[Object]) -> list[tuple[str, float]]:
    """Names and values, for objects that have one of each, or a count between two ends."""
    if all({"low", "high", "count"} <= item.keys() for item in items):
        return _histogram(items)
    if all({"with_cause", "without_cause"} <= item.keys() for item in items):
        pairs = [(f"{at} with", f"{at} without", item) for at, item in enumerate(items, 1)]
        return [row for yes, no, pair in pairs for row in ((yes, pair["with_cause"]), (no, pair["without_cause"]))]
    name = next((name for name in NAMES if all(isinstance(item.get(name), str | int) for item in items)), None)
    values = [key for key, value in items[0].items() if key != name and isinstance(value, float)]
    value = next((key for key in values if all(_is_number(item.get(key)) for item in items)), None)
    if name is None or value is None:
        return []
    return [(_shown(item[name]), float(item[value])) for item in items]


def _histogram(bins: Sequence[Object]) -> list[tuple[str, float]]:
    """At most BARS bins, neighbours added together where there are more."""
    together = -(-len(bins) // BARS)
    groups = [bins[i : i + together] for i in range(0, len(bins), together)]
    return [(f"{number(g[0]['low'])} to {number(g[-1]['high'])}", float(sum(b["count"] for b in g))) for g in groups]


def _shown(name: object) -> str:
    text = str(name)
    return plain(text).plain if text == text.strip() else repr(text)


def _spaced(name: str) -> str:
    return plain(name.replace("_", " ")).plain


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
