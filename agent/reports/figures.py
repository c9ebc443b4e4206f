"""Figures of a report as inline SVG: no script, no font, no file beside it."""

from collections.abc import Sequence
from html import escape

from agent.screen.show import clean

WIDTH, ROW, LEFT = 640, 26, 300
FIRES, SILENT, LIMIT = "#d97706", "#94a3b8", "#334155"


def bars(rows: Sequence[tuple[str, float, str]], unit: str) -> str:
    """One horizontal bar a row: label, value (0 or more), colour. `unit` is written under them."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    scale = (WIDTH - LEFT - 70) / most
    parts = []
    for number, (label, value, colour) in enumerate(rows):
        y = number * ROW
        parts.append(_label(label, y))
        parts.append(f'<rect x="{LEFT}" y="{y + 5}" width="{max(value * scale, 1):.1f}" height="15" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + value * scale + 6:.1f}" y="{y + 17}">{value:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{len(rows) * ROW + 14}" fill="#64748b">{escape(unit)}</text>')
    return _svg(parts, len(rows) * ROW + 22)


def thresholds(rows: Sequence[tuple[str, float, str, float, bool]]) -> str:
    """Predicted and measured: label, threshold, comparison, measured value, held. Each row has a scale of its own."""
    parts = []
    for number, (label, threshold, comparison, value, held) in enumerate(rows):
        y = number * ROW
        low, high = min(threshold, value, 0.0), max(threshold, value, 1.0)
        scale = (WIDTH - LEFT - 70) / (high - low)
        limit, dot = LEFT + (threshold - low) * scale, LEFT + (value - low) * scale
        above = comparison.startswith(">")
        start, end = (limit, LEFT + (high - low) * scale) if above else (float(LEFT), limit)
        parts.append(_label(label, y))
        parts.append(
            f'<rect x="{start:.1f}" y="{y + 6}" width="{max(end - start, 1):.1f}" height="13" fill="#e2e8f0"/>'
            f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="{y + 3}" y2="{y + 22}" stroke="{LIMIT}"/>'
            f'<circle cx="{dot:.1f}" cy="{y + 12.5}" r="5" fill="{"#15803d" if held else "#b91c1c"}"/>'
            f'<text x="{WIDTH - 60}" y="{y + 17}">{value:.3g}</text>'
        )
    return _svg(parts, len(rows) * ROW + 4)


def curve(points: Sequence[tuple[float, float]], x_name: str, y_name: str) -> str:
    """A line through points in order of x."""
    points = sorted(points)
    low_x, high_x = points[0][0], points[-1][0]
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    wide, tall = WIDTH - 120, 160

    def at(x: float, y: float) -> str:
        across = (x - low_x) / ((high_x - low_x) or 1.0) * wide
        up = (y - low_y) / ((high_y - low_y) or 1.0) * tall
        return f"{60 + across:.1f},{10 + tall - up:.1f}"

    dots = "".join(
        f'<circle cx="{where.partition(",")[0]}" cy="{where.partition(",")[2]}" r="3" fill="{FIRES}"/>'
        for where in (at(x, y) for x, y in points)
    )
    parts = [
        f'<polyline fill="none" stroke="{FIRES}" stroke-width="2" points="{" ".join(at(x, y) for x, y in points)}"/>',
        dots,
        f'<text x="4" y="18">{high_y:.3g}</text><text x="4" y="{10 + tall}">{low_y:.3g}</text>',
        f'<text x="60" y="{tall + 30}">{low_x:.3g}</text>',
        f'<text x="{60 + wide}" y="{tall + 30}" text-anchor="end">{high_x:.3g}</text>',
        f'<text x="{60 + wide / 2}" y="{tall + 30}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text x="66" y="12" fill="#64748b">{escape(y_name)}</text>',
    ]
    return _svg(parts, tall + 40)


def _label(text: str, y: int) -> str:
    short = clean(text)
    short = short if len(short) <= 46 else short[:45] + "…"
    return f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(short)}</text>'


def _svg(parts: Sequence[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img">{"".join(parts)}</svg>'
    )
