"""What was found at sites: the strongest one by one, and maps of layers by tokens or units, ready to be drawn."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.causal import told
from tools.workbench.figures import HeatMap
from tools.workbench.pairs import Aligned
from tools.workbench.patching import Patch
from tools.workbench.registry import ToolOutput
from tools.workbench.shares import Share
from tools.workbench.sites import Site
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


def size_of_effect(each: SiteEffect) -> float:
    return each.change if each.effect is None else each.effect


def said_at(each: SiteEffect) -> str:
    return each.site if each.token is None else f"{each.site} ({each.token})"


def said_of(each: SiteEffect) -> str:
    return f"{said_at(each)} {told(size_of_effect(each), each.low, each.high)}"


def labels(subject: Subject, pair: Aligned) -> list[str]:
    """The first pair's tokens, as it calls them: what both prompts hold, its role."""
    roles = {position: role for role, position in pair.roles}
    both = zip(*(subject.token_strings(tokens) for tokens in (pair.clean, pair.corrupted)), strict=True)
    return [
        (a if a == b else f"{a}/{b}") + (f" {roles[position]}" if position in roles else "")
        for position, (a, b) in enumerate(both)
    ]


def mapped(sites: Sequence[Site], sizes: np.ndarray, tokens: Sequence[str]) -> HeatMap | None:
    """A number for each site, a row for each layer; None where there are too many sites to look at. Of a token that
    repeats the position is told, too."""
    if len(sites) > MAPPED:
        return None
    columns = {(site.position, site.index): site for site in sites}
    rows: dict[int, list[float]] = {}
    for site, size in zip(sites, sizes, strict=True):
        rows.setdefault(site.layer, []).append(float(size))
    names = [f"{token} @{place}" if tokens.count(token) > 1 else token for place, token in enumerate(tokens)]
    return HeatMap(
        rows=tuple(f"L{layer}" for layer in rows),
        columns=tuple(_column(site, names) for site in columns.values()),
        values=tuple(tuple(row) for row in rows.values()),
    )


def _column(site: Site, names: Sequence[str]) -> str:
    at = "" if site.position is None else names[site.position]
    return f"{site.unit} {at}".strip() if site.unit else at or "all positions"
