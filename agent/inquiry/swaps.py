"""Where a word is put to test a latent: places in texts that were not shown."""

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.workbench.context import Context

BEFORE, AFTER = 12, 6  # words of a place
CLEAR = 0.3  # of the latent's maximum: places on which it surely fires
SNIPPETS = 20  # of the harvest, looked at

Place = tuple[str, str]


def places(context: "Context", latent: int) -> list[Place]:
    """What stands about the word that fires most in snippets of the scoring half, up to the next that fires."""
    from tools.workbench.examples import spread, top
    from tools.workbench.lexicon import LEAST, WORDS
    from tools.workbench.texts import pieces

    harvest = context.need_harvest()
    maximum = float(harvest.stats().max[latent])
    found = []
    drawn = spread(harvest, latent, SNIPPETS, "score", context.rng("places", latent))
    for snippet in [*drawn, *top(harvest, latent, SNIPPETS, "score")]:
        tokens, activations = pieces(context.subject, snippet.tokens), snippet.activations
        text, ends = "".join(tokens), list(accumulate(map(len, tokens)))
        at = int(activations.argmax())
        middle = ends[at] - len(tokens[at].lstrip()) / 2
        word = next((match for match in WORDS.finditer(text) if match.start() < middle < match.end()), None)
        if activations[at] < CLEAR * maximum or word is None:
            continue
        fires = [end for end, activation in zip(ends, activations, strict=True) if activation >= LEAST * maximum]
        first = max((end for end in fires if end <= word.start()), default=0)
        begins = [end - len(tokens[place]) for place, end in enumerate(ends) if end in fires]
        last = min((begin for begin in begins if begin >= word.end()), default=len(text))
        before, after = text[first : word.start()], text[word.end() : last]
        gap = " " if before[-1:].isspace() else ""
        before = (" ".join(before.split()[-BEFORE:]) + gap).lstrip()
        after = (" " if after[:1].isspace() else "") + " ".join(after.split()[:AFTER])
        found.append((before, after))
    return list(dict.fromkeys(found))


def fits(place: Place, word: str) -> bool:
    """Whether the word stays a word of its own there."""
    before, after = place
    return not ((before[-1:].isalnum() and word[:1].isalnum()) or (word[-1:].isalnum() and after[:1].isalnum()))
