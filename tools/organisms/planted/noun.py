"""What is known of a planted latent."""

from dataclasses import dataclass
from enum import StrEnum

from tools.organisms.planted.rules import Rule


class Kind(StrEnum):
    """What a planted latent's meaning is: a rule on a token, on its context, both of two rules, one rule without
    another, the words that it makes likelier, or nothing."""

    TOKEN = "token"
    CONTEXT = "context"
    CONJUNCTION = "conjunction"
    NEGATION = "negation"
    WRITES = "writes"
    DECOY = "decoy"


@dataclass(frozen=True)
class Planted:
    """One latent. For a reader `frames` make texts that fire it and `near` texts that nearly do; for a writer `frames`
    are words that it promotes and `near` words like them that it does not; a decoy has neither."""

    name: str
    kind: Kind
    meaning: str
    rule: Rule
    frames: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
