"""Text of models and data on a terminal: made harmless first, then highlighted where a latent fires."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from store.text import clean as clean

SHADES = ("black on #fde9b0", "black on #fbc95a", "black on #f59e1b", "bold black on #ef6c1a")
STRONG = 0.5  # of the peak: from here on the stronger marks are used where there is no colour
MARKS, WEAK_MARKS = ("«", "»"), ("\u2039", "\u203a")
ELLIPSIS = "…"


def plain(text: str) -> Text:
    """Untrusted text for rich: cleaned, and never read as markup."""
    return Text(" ".join(clean(text).split()))


def coloured(console: Console) -> bool:
    """Whether colour reaches the reader: not with NO_COLOR, nor in a pipe or a file."""
    return console.color_system is not None and not console.no_color


def highlight(
    tokens: Sequence[str],
    activations: Sequence[float],
    *,
    colour: bool,
    cells: int = 160,
    scale: float | None = None,
) -> Text:
    """The stretch of about `cells` characters around the strongest token, firing tokens shaded by activation.

    Without colour, «strong» tokens (at least half of the peak) and ‹weaker› ones are bracketed. scale: what counts as
    the peak, of which less than a quarter is not shaded (None: the highest activation).
    """
    shown = [clean(token) for token in tokens]
    shown[0] = shown[0].lstrip()
    peak = max(activations)
    start, end = _around(shown, list(activations).index(peak), cells)
    peak, least = (peak, 0.0) if scale is None else (scale, scale / len(SHADES))
    text = Text(ELLIPSIS if start > 0 else "", overflow="fold")  # a long word is broken, lest its mark be cut off
    for token, activation in zip(shown[start:end], activations[start:end], strict=True):
        word = token.lstrip(" ") or token
        text.append(token[: len(token) - len(word)])
        if activation <= least:
            text.append(word)
        elif colour:
            text.append(word, SHADES[min(int(activation / peak * len(SHADES)), len(SHADES) - 1)])
        else:
            left, right = MARKS if activation >= STRONG * peak else WEAK_MARKS
            text.append(left + word + right)
    text.append(ELLIPSIS if end < len(shown) else "")
    return text


def _around(tokens: Sequence[str], centre: int, cells: int) -> tuple[int, int]:
    """The slice [start, end) of about `cells` characters, two thirds of them before and including `centre`."""
    start, used = centre, len(tokens[centre])
    while start > 0 and used + len(tokens[start - 1]) <= cells * 2 // 3:
        start -= 1
        used += len(tokens[start])
    end = centre + 1
    while end < len(tokens) and used + len(tokens[end]) <= cells:
        used += len(tokens[end])
        end += 1
    while start > 0 and used + len(tokens[start - 1]) <= cells:
        start -= 1
        used += len(tokens[start])
    return start, end
