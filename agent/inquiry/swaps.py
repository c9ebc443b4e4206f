"""Where a word is put to test a latent: places in texts that were not shown."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.workbench.context import Context

BEFORE, AFTER = 12, 6  # words of a place
CLEAR = 0.3  # of the latent's maximum: places on which it surely fires
SNIPPETS = 20  # of the harvest, looked at

Place = tuple[str, str]


def places(context: "Context", latent: int) -> list[Place]:
    """What stands before and after the strongest token of snippets of the scoring half, as far as no other fires."""
    from tools.workbench.examples import spread, top
    from tools.workbench.lexicon import LEAST
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
