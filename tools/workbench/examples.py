"""Choosing windows of one latent from a harvest, and splitting them by document.

Every document belongs to one half, by hash: explanations are written from the half "explain" and scored on the half
"score", so no scorer sees a document its explainer saw. A snippet is a short stretch of a window around one token,
mostly of what comes before it, which is all the model knew; BOS and other sinks never fire and BOS is never shown.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from store.activations import Harvest, Peaks, Window
from store.ids import content_hash
from store.types import ActivationExample
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces

WIDTH = 32  # tokens of a snippet
BEFORE = 3 / 4  # share of a snippet that comes before its token
FIRING = 0.3  # of the snippet's peak: what a token must reach to be shown as firing (Delphi's threshold)
NEAR = 6  # tokens up to the peak by which two snippets are told apart
KEPT_WINDOWS = 65_536  # windows held in memory: 64 MiB of tokens at a context of 256

Half = Literal["explain", "score"]


@dataclass(frozen=True, eq=False)
class Snippet:
    """Tokens [start, start + n) of a window and one latent's activation on each, float32[n] in dictionary units."""

    window: Window
    start: int
    activations: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """int32[n]."""
        return self.window.tokens[self.start : self.start + len(self.activations)]

    @property
    def firing(self) -> list[int]:
        """Offsets of the tokens that reach 0.3 of the snippet's peak; none where the latent does not fire."""
        floor = max(FIRING * float(self.activations.max()), np.finfo(np.float32).tiny)
        return np.flatnonzero(self.activations >= floor).tolist()

    def example(self, subject: Subject) -> ActivationExample:
        """The snippet as it is stored and shown."""
        return ActivationExample(
            document=self.window.document,
            window=self.window.id,
            start=self.start,
            tokens=tuple(pieces(subject, self.tokens)),
            activations=tuple(self.activations.tolist()),
        )


def half_of(harvest: Harvest, document: int) -> Half:
    """The half a document belongs to, a function of the corpus and the document alone."""
    return _half(str(harvest.header.get("corpus_hash")), document)


@lru_cache(maxsize=1 << 20)
def _half(corpus: str, document: int) -> Half:
    return "explain" if int(content_hash([corpus, document]), 16) % 2 else "score"


def windows_of(harvest: Harvest, ids: Sequence[int] | np.ndarray) -> list[Window]:
    """The windows with these ids, kept in memory from then on: tools ask for the same ones again and again."""
    kept = _kept(harvest)
    found = {int(id): kept.get(int(id)) for id in ids}
    missing = sorted(id for id, window in found.items() if window is None)
    fresh = {window.id: window for window in harvest.windows(missing)} if missing else {}
    kept.update(fresh)
    while len(kept) > KEPT_WINDOWS:
        kept.popitem(last=False)
    return [found[int(id)] or fresh[int(id)] for id in ids]


@lru_cache(maxsize=1)
def _kept(harvest: Harvest) -> "OrderedDict[int, Window]":
    return OrderedDict()


def need_firings(harvest: Harvest, latent: int) -> int:
    """How often the latent fires in the harvest; ToolError when it never does."""
    count = int(harvest.stats().count[latent])
    if not count:
        raise ToolError(
            f"Latent {latent} is dead: it never fires on the {harvest.n_tokens:,} tokens of this harvest; "
            "harvest more text or name another latent."
        )
    return count


def snippets(
    harvest: Harvest, latent: int, windows: Sequence[Window], positions: Sequence[int] | np.ndarray, width: int = WIDTH
) -> Iterator[Snippet]:
    """The latent's snippet around each position (BOS at 0) of each window."""
    firings = harvest.activations(latent, [window.id for window in windows])
    for window, position in zip(windows, positions, strict=True):
        start, end = bounds(len(window.tokens), int(position), width)
        rows = slice(*np.searchsorted(firings.window, [window.id, window.id + 1]))
        dense = np.zeros(len(window.tokens), np.float32)
        dense[firings.position[rows]] = firings.activation[rows]
        yield Snippet(window, start, dense[start:end])


def bounds(length: int, position: int, width: int = WIDTH) -> tuple[int, int]:
    """[start, end) of the snippet around `position` in a window of `length` tokens; never takes BOS in."""
    end = min(length, max(position - int(width * BEFORE), 1) + width)
    return max(1, end - width), end


def top(harvest: Harvest, latent: int, n: int, half: Half | None = None, width: int = WIDTH) -> list[Snippet]:
    """Up to `n` different snippets around the highest peaks, at most one a window, highest first."""
    peaks = in_half(harvest, harvest.peaks(latent, "top"), half)
    return _varied(harvest, latent, peaks, [range(len(peaks.window))] * n, width)


def spread(
    harvest: Harvest, latent: int, n: int, half: Half | None, rng: np.random.Generator, width: int = WIDTH
) -> list[Snippet]:
    """Up to `n` different snippets around firings of every strength, strongest first.

    The uniform sample of firings is cut into `n` strata by activation (deciles, if `n` is 10); one is drawn from each.
    """
    peaks = in_half(harvest, harvest.peaks(latent, "sample"), half)
    strata = np.array_split(np.arange(len(peaks.window)), n)
    return _varied(harvest, latent, peaks, [rng.permutation(stratum).tolist() for stratum in strata], width)


def in_half(harvest: Harvest, peaks: Peaks, half: Half | None) -> Peaks:
    """The peaks whose document lies in `half`; all of them for None."""
    if half is None:
        return peaks
    windows = windows_of(harvest, peaks.window)
    return _rows(peaks, [row for row, window in enumerate(windows) if half_of(harvest, window.document) == half])


def _rows(peaks: Peaks, rows: list[int]) -> Peaks:
    return Peaks(peaks.window[rows], peaks.position[rows], peaks.activation[rows])


def _varied(harvest: Harvest, latent: int, peaks: Peaks, groups: Sequence[Sequence[int]], width: int) -> list[Snippet]:
    """One snippet of each group of rows, strongest first: corpora repeat themselves, and repetitions teach nothing.

    Taken is the group's first row whose six tokens up to the peak are new, or else whose whole snippet is.
    """
    windows, positions = windows_of(harvest, peaks.window), peaks.position.tolist()
    spans = [bounds(len(w.tokens), p, width) for w, p in zip(windows, positions, strict=True)]
    whole = [w.tokens[start:end].tobytes() for w, (start, end) in zip(windows, spans, strict=True)]
    near = [w.tokens[max(1, p - NEAR + 1) : p + 1].tobytes() for w, p in zip(windows, positions, strict=True)]
    chosen: list[int] = []
    seen: set[bytes] = set()
    for group in groups:
        row = next((r for r in group if near[r] not in seen), next((r for r in group if whole[r] not in seen), None))
        if row is not None:
            chosen.append(row)
            seen |= {near[row], whole[row]}
    chosen.sort()
    return list(snippets(harvest, latent, [windows[row] for row in chosen], [positions[row] for row in chosen], width))
