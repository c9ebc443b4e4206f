"""Latents that write: sets of words that they make likelier, and words like these that they leave alone.

The trigger is random, so that what such a latent fires on tells nothing. Every word is one token with a space before.
"""

from tools.organisms.planted.noun import Kind, Planted
from tools.organisms.planted.rules import at_random
from tools.organisms.planted.texts import words

TRIGGER = 0.008  # share of tokens on which such a latent fires


def _writer(name: str, meaning: str, promoted: str, near: str) -> Planted:
    return Planted(name, Kind.WRITES, meaning, at_random(TRIGGER, name), words(promoted), words(near))


WRITES = (
    _writer(
        "writes colours",
        "names of colours",
        "red green blue yellow white black brown orange purple pink",
        "round square bright dark heavy wooden soft tall painted clear",
    ),
    _writer(
        "writes family members",
        "words for members of the family",
        "mother father sister brother daughter son wife husband uncle aunt",
        "teacher doctor friend neighbor captain farmer woman man student king",
    ),
    _writer(
        "writes numbers",
        "numbers written as words",
        "two three four five six seven eight nine ten twelve",
        "many few some several most more half both each all",
    ),
    _writer(
        "writes animals",
        "names of animals",
        "dog cat horse cow pig sheep bird lion rabbit wolf",
        "tree flower river mountain stone grass forest garden cloud leaf",
    ),
)
