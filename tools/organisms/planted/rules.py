"""When a planted latent fires: rules on a token and the text before it, and their conjunctions and negations.

A rule is asked about one token at a time and told only what the model has read by then, so no rule can look ahead.
"""

import re
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b

BACK = 160  # characters before a token that a pattern may look at
RECENT = 10  # words that tell a language
ENOUGH = 3  # of them, different, that only this language has

Rule = Callable[[str, str], bool]  # (text before the token, the token) -> does the latent fire on it?

WORD = re.compile(r"[^\W\d_]+")
LAST_WORD = re.compile(r"\b[A-Z][a-z]+\Z")


def ending(pattern: str) -> Rule:
    """Fires on a token at whose end `pattern` has just been completed."""
    completed = re.compile(rf"(?:{pattern})\Z", re.MULTILINE)

    def fires(before: str, token: str) -> bool:
        return bool(token.strip()) and completed.search(before[-BACK:] + token) is not None

    return fires


def both(one: Rule, other: Rule) -> Rule:
    """Fires where both do."""
    return lambda before, token: one(before, token) and other(before, token)


def but_not(one: Rule, other: Rule) -> Rule:
    """Fires where `one` does and `other` does not."""
    return lambda before, token: one(before, token) and not other(before, token)


def inside_quotes(before: str, token: str) -> bool:
    """Fires on what stands between double quotation marks, straight or curly, within a line."""
    line = before.rpartition("\n")[2]
    opened = line.count('"') % 2 == 1 or line.rfind("“") > line.rfind("”")
    return opened and bool(token.strip()) and not set(token) & set('"“”\n')


def inside_parentheses(before: str, token: str) -> bool:
    """Fires on what stands between round brackets, within a line."""
    line = before.rpartition("\n")[2]
    return line.count("(") > line.count(")") and bool(token.strip()) and not set(token) & set("()\n")


def language(words: Collection[str]) -> Rule:
    """Fires on every word once three different ones of the last ten are in `words`."""
    known = frozenset(words)

    def fires(before: str, token: str) -> bool:
        recent = WORD.findall((before[-BACK:] + token).lower())[-RECENT:]
        return bool(WORD.search(token)) and len(known.intersection(recent)) >= ENOUGH

    return fires


def one_of(names: Collection[str]) -> Rule:
    """Fires on the token that completes one of `names`, each a capitalised word."""
    known = frozenset(names)
    return lambda before, token: _completed(before, token) in known


def seen_before(before: str, token: str) -> bool:
    """Fires on the token that completes a capitalised word which the text already has."""
    word = _completed(before, token)
    return word != "" and re.search(rf"\b{word}\b", (before + token)[: -len(word)]) is not None


def at_random(density: float, salt: object) -> Rule:
    """Fires on that share of tokens, for no reason in the text: the same text always gives the same firings."""
    return lambda before, token: draw(salt, before, token) < density


def draw(*parts: object) -> float:
    """A number in [0, 1) that looks random and depends on `parts` alone."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def firings(rule: Rule, pieces: Sequence[str]) -> list[bool]:
    """On which of the tokens that add up to a text the rule fires; never on one that adds nothing."""
    text = "".join(pieces)
    fired, end = [], 0
    for piece in pieces:
        fired.append(bool(piece) and rule(text[:end], piece))
        end += len(piece)
    return fired


def _completed(before: str, token: str) -> str:
    """The capitalised word that ends with `token`, or nothing."""
    found = LAST_WORD.search(before[-BACK:] + token)
    return found[0] if found and token.strip() else ""
