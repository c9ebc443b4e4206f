"""Figures of a report as inline SVG and HTML: no script, no font, no file beside it."""

from collections.abc import Sequence
from html import escape

from agent.screen.shapes import Bar, Bars, Curve, Figure, HeatMap, Reading, Texts
from agent.screen.show import clean

WIDTH, ROW, LEFT, RIGHT = 640, 26, 300, 70
FIRES, SILENT, LIMIT, FAINT = "#d97706", "#94a3b8", "#334155", "#64748b"
WARM, COOL = (234, 88, 12), (37, 99, 235)  # the colours of the ends of a heat map's scale
TALL = 160  # of a curve


def figure(shape: Figure) -> str:
    """The figure as HTML; text in it is cleaned and escaped."""
    match shape:
        case Reading(tokens, activations, scale):
            return reading(tokens, activations, scale)
        case Bars(rows, measure):
            return bars(rows, measure)
        case Curve():
            return curve(shape)
        case HeatMap():
            return heat_map(shape)
        case Texts(texts):
            return "".join(f"<blockquote>{_text(text)}</blockquote>" for text in texts)


def reading(tokens: Sequence[str], activations: Sequence[float], scale: float | None = None) -> str:
    """A text whose firing tokens are shaded by activation, which shows under the pointer; scale: what is shaded fully
    (None: the highest)."""
    peak = scale or max(*activations, 0.0) or 1.0
    spans = []
    for token, value in zip([tokens[0].lstrip(), *tokens[1:]], activations, strict=True):
        word = token.lstrip(" ") or token
        space, shade = token[: len(token) - len(word)], f"background:rgba(217,119,6,{0.15 + 0.75 * value / peak:.2f})"
        marked = f'<mark style="{shade}" title="{value:.3g}">{_text(word)}</mark>'
        spans.append(space + (marked if value > 0 else _text(word)))
    return f'<p class="reading">{"".join(spans)}</p>'


def bars(rows: Sequence[Bar], measure: str) -> str:
    """One horizontal bar a row, from a common zero; controls in grey. `measure` is written under them."""
    low, high = min(0.0, *(row.value for row in rows)), max(0.0, *(row.value for row in rows))
    scale = (WIDTH - LEFT - RIGHT) / ((high - low) or 1.0)
    zero = LEFT - low * scale
    parts = []
    for number, row in enumerate(rows):
        y, end = number * ROW, zero + row.value * scale
        parts.append(
            f'{_label(row.label, y)}<rect x="{min(zero, end):.1f}" y="{y + 5}" width="{max(abs(end - zero), 1):.1f}" '
            f'height="15" fill="{SILENT if row.beside else FIRES}"/>'
            f'<text x="{max(zero, end) + 6:.1f}" y="{y + 17}">{row.value:.3g}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{len(rows) * ROW + 14}" fill="{FAINT}">{_text(measure)}</text>')
    return _svg(parts, len(rows) * ROW + 22)


def thresholds(rows: Sequence[tuple[str, float, str, float, bool]]) -> str:
    """Predicted and measured: label, threshold, comparison, measured value, held. Each row has a scale of its own."""
    parts = []
    for number, (label, threshold, comparison, value, held) in enumerate(rows):
        y = number * ROW
        low, high = min(threshold, value, 0.0), max(threshold, value, 1.0)
        scale = (WIDTH - LEFT - RIGHT) / (high - low)
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


def curve(shape: Curve) -> str:
    """A measure by strength or layer with its intervals, zero dashed, the controls as lines in grey."""
    points = sorted(shape.points)
    lines = [points, *(sorted(line) for line in shape.beside.values())]
    heights = [y for line in lines for _, *ys in line for y in ys if y is not None]
    low_x, high_x = points[0][0], points[-1][0]
    low_y, high_y = min(0.0, *heights), max(0.0, *heights)
    wide = WIDTH - 120

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / ((high_x - low_x) or 1.0) * wide
        up = (y - low_y) / ((high_y - low_y) or 1.0) * TALL
        return 60 + across, 10 + TALL - up

    zero = at(low_x, 0.0)[1]
    dashed = f'stroke="{SILENT}" stroke-dasharray="4 3"'
    parts = [f'<line x1="60" x2="{60 + wide}" y1="{zero:.1f}" y2="{zero:.1f}" {dashed}/>']
    for line, colour in [*((line, SILENT) for line in lines[1:]), (points, FIRES)]:
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y, *_ in line)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
    for x, y, bottom, top in points:
        across, up = at(x, y)
        if bottom is not None and top is not None:
            ends = f'y1="{at(x, bottom)[1]:.1f}" y2="{at(x, top)[1]:.1f}"'
            parts.append(f'<line x1="{across:.1f}" x2="{across:.1f}" {ends} stroke="{FIRES}"/>')
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{FIRES}"/>')
    names = "; grey: ".join([shape.name, *([", ".join(shape.beside)] if shape.beside else [])])
    parts += [
        f'<text x="4" y="18">{high_y:.3g}</text><text x="4" y="{10 + TALL}">{low_y:.3g}</text>',
        f'<text x="60" y="{TALL + 30}">{low_x:.3g}</text>',
        f'<text x="{60 + wide}" y="{TALL + 30}" text-anchor="end">{high_x:.3g}</text>',
        f'<text x="{60 + wide / 2}" y="{TALL + 30}" text-anchor="middle">{escape(shape.x)}</text>',
        f'<text x="66" y="{TALL + 48}" fill="{FAINT}">{escape(shape.y)}: {_text(names)}</text>',
    ]
    return _svg(parts, TALL + 56)


def heat_map(shape: HeatMap) -> str:
    """A cell a value, its colour on a scale symmetric about zero, the value under the pointer."""
    most = max((abs(v) for line in shape.values for v in line if v is not None), default=0.0) or 1.0
    left, top = 110, 90
    wide, tall = min(26.0, (WIDTH - left) / len(shape.columns)), 16
    parts = []
    for r, (name, line) in enumerate(zip(shape.rows, shape.values, strict=True)):
        y = top + r * tall
        parts.append(f'<text x="{left - 6}" y="{y + 12}" text-anchor="end" font-size="11">{_short(name, 16)}</text>')
        for c, value in enumerate(line):
            if value is not None:
                box = f'x="{left + c * wide:.1f}" y="{y}" width="{wide:.1f}" height="{tall}"'
                told = f"{_text(name)}, {_text(shape.columns[c])}: {value:.3g}"
                parts.append(f'<rect {box} fill="{_shade(value / most)}"><title>{told}</title></rect>')
    for c, name in enumerate(shape.columns):
        x = left + (c + 0.7) * wide
        slanted = f'transform="rotate(-55 {x:.1f} {top - 6})"'
        parts.append(f'<text x="{x:.1f}" y="{top - 6}" font-size="11" {slanted}>{_short(name, 14)}</text>')
    foot = top + len(shape.rows) * tall + 10
    for step in range(-4, 5):
        box = f'x="{left + (step + 4) * 14}" y="{foot}" width="14" height="10"'
        parts.append(f'<rect {box} fill="{_shade(step / 4)}"/>')
    parts.append(f'<text x="{left - 6}" y="{foot + 10}" text-anchor="end" fill="{FAINT}">{-most:.3g}</text>')
    parts.append(f'<text x="{left + 9 * 14 + 6}" y="{foot + 10}" fill="{FAINT}">{most:.3g}</text>')
    return _svg(parts, foot + 18)


def _shade(share: float) -> str:
    """White at 0, the end of the scale at 1 and -1."""
    end = WARM if share >= 0 else COOL
    return "rgb({},{},{})".format(*(round(255 - abs(share) * (255 - colour)) for colour in end))


def _text(text: str) -> str:
    return escape(clean(text))


def _short(text: str, longest: int) -> str:
    whole = clean(text)
    return escape(whole if len(whole) <= longest else whole[: longest - 1] + "…")


def _label(text: str, y: int) -> str:
    return f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{_short(text, 46)}</text>'


def _svg(parts: Sequence[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" role="img">{"".join(parts)}</svg>'
    )
