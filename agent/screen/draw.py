"""The figures of a tool's output on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from agent.screen.plot import bars, curve, heat_map
from agent.screen.shapes import Bars, Curve, Figure, HeatMap, Output, Reading, Texts, figures
from agent.screen.show import highlight, plain


def drawn(output: Output, width: int, colour: bool) -> Iterator[RenderableType]:
    """Every figure under the name of its field. `width` in cells."""
    for name, found in figures(output):
        yield Text(plain(name).plain, "dim italic")
        for figure in found:
            yield from (Padding(part, (0, 0, 0, 2)) for part in _drawn(figure, width - 2, colour))


def _drawn(figure: Figure, width: int, colour: bool) -> Iterator[RenderableType]:
    match figure:
        case Reading(tokens, activations, scale):
            yield highlight(tokens, activations, colour=colour, cells=2 * width, scale=scale)
        case Bars(rows, _):
            yield bars([(row.label, row.value) for row in rows], width)
        case Curve(name, points, beside, x, y):
            yield curve(points, width, x, y, list(beside.values()))
            if beside:
                yield Text(f"● {plain(name).plain}   ○ {', '.join(plain(other).plain for other in beside)}", "dim")
        case HeatMap(rows, columns, values):
            yield heat_map(rows, columns, values, width, colour)
        case Texts(texts):
            yield from (Text("“").append_text(plain(text)).append("”") for text in texts)
