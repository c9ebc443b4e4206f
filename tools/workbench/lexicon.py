"""The words of a harvest: how often each stands there, and how strongly a latent fires on it.

A word is a run of letters, digits and underscores, or one of signs: what a reader would call one, not what the
tokenizer cut. The words that a latent fires on are two halves, so that a claim made from one is tried on the other.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

import numpy as np

from store.activations import Harvest, Window
from tools.workbench.examples import Half, windows_of
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces

WORDS = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]+")
LONGEST = 20  # characters of a word
WINDOWS = 1000  # at random, and as many in which the latent fires
LEAST = 0.1  # of the latent's maximum: what counts as firing
OFTEN = 0.5  # of a word's occurrences that must make it fire, where the word is what it fires on
MATCHED = 2  # times as frequent, at most


@dataclass(frozen=True)
class Entry:
    """A word as it is mostly spelled: how often it stands in the windows looked at, on how many of these it fires,
    and the activation summed over all, in units of the latent's maximum."""

    word: str
    n: int
    fires: int
    sum: float


@dataclass(frozen=True)
class Lexicon:
    """One latent's words by their casefolded spelling; `counts` in random windows alone."""

    entries: dict[str, Entry]
    counts: Counter[str]

    def firing(self, half: Half | None = None) -> list[Entry]:
        """The words on which it fires as a rule, by the activation they gather; of these every other one is in the half
        "explain", the first among them, and the others are in "score"."""
        found = [
            entry for entry in self.entries.values() if entry.fires >= OFTEN * entry.n and entry.sum >= LEAST * entry.n
        ]
        found.sort(key=lambda entry: (-entry.sum, entry.word))
        return found if half is None else found[half == "score" :: 2]

    def silent(self, word: str, taken: Collection[str], rng: np.random.Generator, near_miss: bool) -> str | None:
        """Some word as frequent on which it was never seen to fire, of the same kind if there is one; not one of
        `taken` (casefolded). None where there is none. A near miss is one that ends most like `word`."""
        near = sorted(
            entry.word
            for key, entry in self.entries.items()
            if not entry.fires and key not in taken and self.counts[key] and self.as_frequent(word, key)
        )
        alike = [other for other in near if kind(other) == kind(word)] or near
        if near_miss:
            ends = [_ending(word.casefold(), other.casefold()) for other in alike]
            alike = [other for other, end in zip(alike, ends, strict=True) if end == max(ends)]
        return str(rng.choice(alike)) if alike else None

    def as_frequent(self, one: str, other: str) -> bool:
        """Whether neither is more than twice as frequent as the other (one more of each, since some are rare)."""
        a, b = (self.counts[word.casefold()] + 1 for word in (one, other))
        return abs(math.log(a / b)) <= math.log(MATCHED)


def _ending(one: str, other: str) -> int:
    """How many characters both end in."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def kind(word: str) -> str:
    """Words beside words, numbers beside numbers, signs beside signs."""
    return "word" if any(map(str.isalpha, word)) else "number" if any(map(str.isdigit, word)) else "sign"


@lru_cache(maxsize=2)
def lexicon(subject: Subject, harvest: Harvest, latent: int, seed: int = 0) -> Lexicon:
    """The words of 1,000 random windows, and of up to 1,000 in which the latent fires."""
    rng = np.random.default_rng(seed)
    firings = harvest.activations(latent)
    ids = np.unique(firings.window)
    if len(ids) > WINDOWS:
        ids = np.sort(rng.choice(ids, WINDOWS, replace=False))
    chosen = np.isin(firings.window, ids)
    active: dict[int, dict[int, float]] = defaultdict(dict)
    shares = firings.activation[chosen] / float(harvest.stats().max[latent])
    columns = (firings.window[chosen], firings.position[chosen], shares)
    for window, position, share in zip(*(column.tolist() for column in columns), strict=True):
        active[window][position] = share
    drawn = harvest.random_windows(WINDOWS, seed=seed)
    at_random = {window.id for window in drawn}
    spelled: dict[str, Counter[str]] = defaultdict(Counter)
    counts, fires = Counter[str](), Counter[str]()
    sums: dict[str, float] = defaultdict(float)
    for window in {window.id: window for window in [*drawn, *windows_of(harvest, ids)]}.values():
        for word, share in _read(subject, window, active.get(window.id, {})):
            key = word.casefold()
            spelled[key][word] += 1
            counts[key] += window.id in at_random
            fires[key] += share >= LEAST
            sums[key] += share
    entries = {
        key: Entry(forms.most_common(1)[0][0], forms.total(), fires[key], sums[key]) for key, forms in spelled.items()
    }
    return Lexicon(entries, counts)


def _read(subject: Subject, window: Window, active: dict[int, float]) -> list[tuple[str, float]]:
    """The words of a window, each with the highest activation on a token that it shares a character with."""
    strings = pieces(subject, window.tokens[1:])
    text = "".join(strings)
    by_character = np.zeros(len(text))
    begin = 0
    for position, string in enumerate(strings, 1):
        first = begin + len(string) - len(string.lstrip())
        by_character[first : begin + len(string)] = active.get(position, 0.0)
        begin += len(string)
    found = [match for match in WORDS.finditer(text) if match.end() - match.start() <= LONGEST]
    return [(match.group(), float(by_character[match.start() : match.end()].max())) for match in found]
