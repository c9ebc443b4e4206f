"""Small charts out of characters: bars, curves with their intervals, heat maps."""

from collections.abc import Sequence
from itertools import pairwise

from rich.cells import cell_len
from rich.text import Text

from agent.screen.shapes import Point
from agent.screen.show import ELLIPSIS, plain

EIGHTHS = " ▏▎▍▌▋▊▉"
UP, DOWN = "green", "red"
LABEL_CELLS = 24
ROWS, COLUMNS = 8, 48  # of a chart at most
POINT, HOLLOW, LINE, SPREAD, ZERO = "●", "○", "·", "│", "┈"

NAME_CELLS = 12  # of a row of a heat map
WARM, COOL = (250, 120, 40), (50, 120, 250)  # the colours of the ends of its scale
STEPS = " ·+*#"  # a cell without colour, by its share of the scale; below zero in brackets


def bars(rows: Sequence[tuple[str, float]], width: int) -> Text:
    """One line a row: label, value, and a bar from zero, red below it. `width` in cells; empty without rows."""
    if not rows:
        return Text()
    labels = [_fitted(label, min(LABEL_CELLS, width // 3)) for label, _ in rows]
    values = [number(value) for _, value in rows]
    wide, long = max(map(cell_len, labels)), max(map(len, values))
    cells = max(1, min(COLUMNS, width - wide - long - 3))
    most = max(abs(value) for _, value in rows) or 1.0
    lines = [
        Text.assemble(
            label + " " * (wide - cell_len(label)),
            (f" {shown:>{long}} ", "bold"),
            (_bar(abs(value) / most * cells), UP if value >= 0 else DOWN),
        )
        for label, shown, (_, value) in zip(labels, values, rows, strict=True)
    ]
    return Text("\n").join(lines)


def curve(
    points: Sequence[Point], width: int, x_name: str = "", y_name: str = "", controls: Sequence[Sequence[Point]] = ()
) -> Text:
    """The points joined by straight lines, intervals as strokes, zero as a dashed line, the controls' points hollow.

    Empty below two different x.
    """
    ordered = sorted(points)
    if len({x for x, *_ in ordered}) < 2:
        return Text()
    beside = [(x, y) for control in controls for x, y, *_ in control if ordered[0][0] <= x <= ordered[-1][0]]
    heights = [y for _, *ys in ordered for y in ys if y is not None] + [y for _, y in beside] + [0.0]
    low, high = min(heights), max(heights)
    high = high if high > low else low + 1.0
    marks = {0: number(high), ROWS - 1: number(low)}
    margin = max(map(len, marks.values()))
    cells = max(8, min(COLUMNS, width - margin - 3))
    left, right = ordered[0][0], ordered[-1][0]

    def column(x: float) -> int:
        return round((x - left) / (right - left) * (cells - 1))

    def row(y: float) -> int:
        return round((high - y) / (high - low) * (ROWS - 1))

    grid = [[" "] * cells for _ in range(ROWS)]
    grid[row(0.0)] = [ZERO] * cells
    for (x1, y1, *_), (x2, y2, *_) in pairwise(ordered):
        for c in range(column(x1), column(x2) + 1):
            share = (c - column(x1)) / max(1, column(x2) - column(x1))
            grid[row(y1 + share * (y2 - y1))][c] = LINE
    for x, _, bottom, top in ordered:
        if bottom is not None and top is not None:
            for r in range(row(top), row(bottom) + 1):
                grid[r][column(x)] = SPREAD
    for x, y in beside:
        grid[row(y)][column(x)] = HOLLOW
    for x, y, *_ in ordered:
        grid[row(y)][column(x)] = POINT
    text = Text()
    if y_name:
        text.append(f"{_fitted(y_name, width)}\n", "dim")
    for r, line in enumerate(grid):
        text.append(f"{marks.get(r, ''):>{margin}} ┤", "dim").append("".join(line), "cyan").append("\n")
    ends = number(left), number(right)
    between = max(1, cells - len(ends[0]) - len(ends[1]))
    ruler = f"{ends[0]}{_fitted(x_name, between).center(between)}{ends[1]}"
    return text.append(" " * (margin + 2) + ruler, "dim")


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], width: int, colour: bool
) -> Text:
    """A coloured cell a value on a scale symmetric about zero, and that scale below; the columns named along the foot.

    Without colour the strength is a sign, and a cell below zero is bracketed. Columns that do not fit are left out
    from the left, which is said: what a prompt is about to say shows at its end.
    """
    names = [_fitted(row, NAME_CELLS) for row in rows]
    margin = max(map(cell_len, names)) + 1
    cells = 2 if colour else 3
    fitting = max(1, min(len(columns), (width - margin) // cells))
    most = max((abs(value) for line in values for value in line if value is not None), default=0.0) or 1.0
    text = Text(no_wrap=True)
    for name, line in zip(names, values, strict=True):
        text.append(" " * (margin - 1 - cell_len(name)) + name + " ", "dim")
        for value in line[-fitting:]:
            text.append(*_cell(value, most, colour))
        text.append("\n")
    shown = columns[-fitting:]
    for at in range(max((min(NAME_CELLS, cell_len(plain(c).plain)) for c in shown), default=0)):
        letters = [_fitted(column, NAME_CELLS)[at : at + 1] or " " for column in shown]
        text.append(" " * margin + "".join(f"{letter:<{cells}}" for letter in letters).rstrip() + "\n", "dim")
    text.append(" " * margin).append(*_cell(-most, most, colour)).append(f" {number(-most)}   ", "dim")
    text.append(*_cell(most, most, colour)).append(f" {number(most)}", "dim")
    if fitting < len(columns):
        text.append(f"\n{len(columns) - fitting} more columns do not fit: the last are shown", "dim")
    return text


def _cell(value: float | None, most: float, colour: bool) -> tuple[str, str]:
    if value is None:
        return ("  " if colour else "   "), ""
    share = abs(value) / most
    if colour:
        shade = [round(255 - share * (255 - end)) for end in (WARM if value >= 0 else COOL)]
        return "  ", f"on rgb({shade[0]},{shade[1]},{shade[2]})"
    sign = STEPS[min(int(share * len(STEPS)), len(STEPS) - 1)]
    return (f"({sign})" if value < 0 and sign != " " else f" {sign} "), ""


def number(value: float) -> str:
    """`value` to three digits, plain where that is short."""
    return f"{value:.3g}"


def _bar(cells: float) -> str:
    whole, part = divmod(round(cells * 8), 8)
    return "█" * whole + EIGHTHS[part].strip()


def _fitted(label: str, cells: int) -> str:
    text = plain(label)
    text.truncate(max(1, cells), overflow="ellipsis")
    return text.plain or ELLIPSIS
