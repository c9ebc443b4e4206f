"""Where a word is put to test a latent, and which word beside it: places that were not shown, words as frequent."""

import math
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.workbench.context import Context

BEFORE, AFTER = 12, 6  # words of a place
LEAST = 0.1  # of the latent's maximum: what minimal_pairs counts as firing
CLEAR = 0.3  # of the latent's maximum: places on which it surely fires
SNIPPETS, WINDOWS = 20, 1000  # of the harvest, looked at
MATCHED = 2  # times as frequent, at most
WORDS = re.compile(r"[^\W\d_]+|\d+|_+|[^\w\s]+")

Place = tuple[str, str]


def places(context: "Context", latent: int) -> list[Place]:
    """What stands before and after the strongest token of snippets of the scoring half, as far as no other fires."""
    from tools.workbench.examples import spread, top
    from tools.workbench.texts import pieces

    harvest = context.need_harvest()
    maximum = float(harvest.stats().max[latent])
    found = []
    drawn = spread(harvest, latent, SNIPPETS, "score", context.rng("places", latent))
    for snippet in [*drawn, *top(harvest, latent, SNIPPETS, "score")]:
        tokens, activations = pieces(context.subject, snippet.tokens), snippet.activations
        at = int(activations.argmax())
        if activations[at] < CLEAR * maximum or not tokens[at].strip():
            continue
        fires = activations >= LEAST * maximum
        first = max((place + 1 for place in range(at) if fires[place]), default=0)
        end = next((place for place in range(at + 1, len(tokens)) if fires[place]), len(tokens))
        before, after = "".join(tokens[first:at]), "".join(tokens[at + 1 : end])
        gap = " " if tokens[at][:1].isspace() or before[-1:].isspace() else ""
        before = (" ".join(before.split()[-BEFORE:]) + gap).lstrip()
        after = (" " if after[:1].isspace() else "") + " ".join(after.split()[:AFTER])
        found.append((before, after))
    return list(dict.fromkeys(found))


def fits(place: Place, word: str) -> bool:
    """Whether the word stays a word of its own there."""
    before, after = place
    return not ((before[-1:].isalnum() and word[:1].isalnum()) or (word[-1:].isalnum() and after[:1].isalnum()))


@dataclass(frozen=True)
class Frequencies:
    """How often words, numbers and signs stand in windows of the harvest, and on which of them the latent fires."""

    text: str
    counts: Counter[str]
    fires: frozenset[str]

    @classmethod
    def of(cls, context: "Context", latent: int) -> "Frequencies":
        from tools.workbench.texts import pieces

        harvest, rng = context.need_harvest(), context.rng("frequencies", latent)
        windows = harvest.random_windows(WINDOWS, seed=int(rng.integers(2**31)))
        firings = harvest.activations(latent, [window.id for window in windows])
        strong = firings.activation >= LEAST * float(harvest.stats().max[latent])
        firing: dict[int, set[int]] = {}
        for window, position in zip(firings.window[strong].tolist(), firings.position[strong].tolist(), strict=True):
            firing.setdefault(window, set()).add(position)
        texts, counts, fires = [], Counter[str](), set()
        for window in windows:
            strings = pieces(context.subject, window.tokens[1:])
            text = "".join(strings).casefold()
            texts.append(text)
            counts.update(WORDS.findall(text))
            begin = 0
            for position, string in enumerate(strings, 1):
                if position in firing.get(window.id, ()):
                    fires |= _around(text, begin, begin + len(string))
                begin += len(string)
        return cls("\n".join(texts), counts, frozenset(fires))

    def count(self, word: str) -> int:
        from tools.lookup.minimal_pairs import standing

        return len(standing(word.casefold()).findall(self.text))

    def match(self, word: str, taken: Collection[str]) -> str | None:
        """A word at most twice as frequent or rare on which the latent was not seen to fire, of its kind if there is.

        None where there is none.
        """
        frequency = math.log(self.count(word) + 1)
        near = {
            other: apart
            for other, count in self.counts.items()
            if (apart := abs(math.log(count + 1) - frequency)) <= math.log(MATCHED)
            and other not in self.fires
            and other not in taken
        }
        return min(near, key=lambda other: (_kind(other) != _kind(word), near[other], other), default=None)


def _kind(word: str) -> str:
    """Words beside words, numbers beside numbers, signs beside signs."""
    return "word" if any(map(str.isalpha, word)) else "number" if any(map(str.isdigit, word)) else "sign"


def _around(text: str, begin: int, end: int) -> set[str]:
    """The words that [begin, end) touches; of one word, a stretch of 40 characters at most to either side."""
    found = WORDS.finditer(text, max(0, begin - 40), end + 40)
    return {match.group() for match in found if match.start() < end and match.end() > begin}
