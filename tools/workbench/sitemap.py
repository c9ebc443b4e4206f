"""What was found at sites: the strongest one by one, and maps of layers by tokens or units, ready to be drawn."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.causal import told
from tools.workbench.pairs import Aligned
from tools.workbench.patching import Patch, Share
from tools.workbench.registry import ToolOutput
from tools.workbench.subject import Subject

MAPPED = 10_000  # sites of a map


class SiteEffect(ToolOutput):
    """A site (the first layer of a window) and what its patch does: the change of the metric, and that as a share of
    the way from the patched run (0) to the other (1) with a 95 % interval over pairs."""

    site: str
    layer: int
    position: int | None
    token: str | None
    index: int | None
    change: float
    effect: float | None
    low: float | None
    high: float | None


class MapRow(ToolOutput):
    """One layer: the effect at each column, or the change of the metric where effects are undefined."""

    layer: int
    values: tuple[float, ...]


def site_effect(patch: Patch, change: np.ndarray, found: Share, tokens: Sequence[str]) -> SiteEffect:
    site, *more = patch.sites
    return SiteEffect(
        site=f"{site} to L{more[-1].layer}" if more else str(site),
        layer=site.layer,
        position=site.position,
        token=None if site.position is None else tokens[site.position],
        index=site.index,
        change=float(change.mean()),
        **found._asdict(),
    )


def size(change: np.ndarray, found: Share) -> float:
    """The effect, or the change of the metric where it is undefined."""
    return float(change.mean()) if found.effect is None else found.effect


def said_of(each: SiteEffect) -> str:
    at = "" if each.token is None else f" ({each.token})"
    return f"{each.site}{at} {told(each.change if each.effect is None else each.effect, each.low, each.high)}"


def labels(subject: Subject, pair: Aligned) -> list[str]:
    """The first pair's tokens, as it calls them: what both prompts hold, its role."""
    roles = {position: role for role, position in pair.roles}
    both = zip(*(subject.token_strings(tokens) for tokens in (pair.clean, pair.corrupted)), strict=True)
    return [
        (a if a == b else f"{a}/{b}") + (f" {roles[position]}" if position in roles else "")
        for position, (a, b) in enumerate(both)
    ]


def mapped(
    patches: Sequence[Patch], sizes: np.ndarray, tokens: Sequence[str]
) -> tuple[tuple[str, ...], tuple[MapRow, ...]]:
    """The columns and a row for each layer; nothing where there are too many sites to look at."""
    if len(patches) > MAPPED:
        return (), ()
    firsts = [patch.sites[0] for patch in patches]
    columns = list(dict.fromkeys((site.position, site.index) for site in firsts))
    rows: dict[int, list[float]] = {}
    for site, size in zip(firsts, sizes, strict=True):
        rows.setdefault(site.layer, []).append(float(size))
    names = [
        " ".join([*([] if index is None else [str(index)]), "all positions" if position is None else tokens[position]])
        for position, index in columns
    ]
    return tuple(names), tuple(MapRow(layer=layer, values=tuple(row)) for layer, row in rows.items())
