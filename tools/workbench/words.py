"""Words, as guesses at what a model hides are told and counted: without case, and not those of grammar alone."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tools.workbench.metrics import single_tokens
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject

SHORTEST = 3  # letters
WORD = re.compile("[^\\W\\d_]+(?:['\u2019][^\\W\\d_]+)?")
_GRAMMAR = """
    about above after again against all also although always among and another any anyone anything are aren't around
    because been before being below between both but can can't cannot could couldn't did didn't does doesn't doing
    don't done down during each either else ever every everyone everything few for from further get got had has
    hasn't have haven't having her here hers herself him himself his how however i'd i'll i'm i've into isn't it's
    its itself just let let's like made make many may maybe might more most much must myself neither never nor not
    nothing now off often once one only onto other others our ours ourselves out over own perhaps quite rather
    really same shall she should shouldn't since some someone something sometimes still such than that that's the
    their theirs them themselves then there there's these they they're thing things this those though through thus
    too two under until upon very via was wasn't well were weren't what what's when where whether which while who
    whom whose why will with within without won't would wouldn't yes yet you you'd you'll you're you've your yours
    yourself
"""
GRAMMAR = frozenset(_GRAMMAR.split())


def is_content(word: str) -> bool:
    """Whether a lower-case word says something."""
    return len(word) >= SHORTEST and word not in GRAMMAR


def content_words(text: str) -> list[str]:
    """Its words that say something, lower-case, each once, in order."""
    found = (word.replace("\u2019", "'").removesuffix("'s") for word in WORD.findall(text.lower()))
    return list(dict.fromkeys(word for word in found if is_content(word)))


def says(text: str, word: str) -> bool:
    """Whether the text has the word, or words, as a whole, or with an s."""
    return re.search(rf"(?<!\w){re.escape(word.strip())}s?(?!\w)", text, re.IGNORECASE) is not None


class Spelled(NamedTuple):
    """The words that are one token of a model, with and without a space before them and in any case.

    names: of each word. of: int64[vocabulary], the word that a token spells; len(names) where it spells none.
    """

    names: tuple[str, ...]
    of: Tensor

    def mass(self, probabilities: Tensor) -> Tensor:
        """[..., words]: of each word, from those of tokens [..., vocabulary]."""
        of = self.of.to(probabilities.device)
        whole = torch.zeros(*probabilities.shape[:-1], len(self.names) + 1, device=probabilities.device)
        found: Tensor = whole.index_add_(-1, of, probabilities.float())[..., :-1]
        return found

    def indices(self, words: Sequence[str]) -> list[int]:
        """Of words in lower case."""
        place = {name: index for index, name in enumerate(self.names)}
        return [place[word] for word in words]


@lru_cache(maxsize=4)
def spelled(subject: Subject) -> Spelled:
    """The words of a model's vocabulary. A token without a space before it counts where one with a space spells the
    same: others go on in a word."""
    size = int(subject.model.cfg.d_vocab)
    strings = subject.token_strings(range(size))
    bare = [string.strip().lower() for string in strings]
    begins = {
        word
        for string, word in zip(strings, bare, strict=True)
        if string[:1] == " " and word.isalpha() and is_content(word)
    }
    names = tuple(sorted(begins))
    place = {name: index for index, name in enumerate(names)}
    return Spelled(names, torch.tensor([place.get(word, len(names)) for word in bare]))


def candidates(subject: Subject, words: Sequence[str]) -> tuple[str, ...]:
    """The words in lower case, each once. ToolError for an empty list or word, one of grammar alone, and one that the
    model reads as several tokens."""
    bare = tuple(dict.fromkeys(word.strip().lower() for word in words))
    if not bare or not all(bare):
        raise ToolError("The list of words is empty or has an empty word: name at least one word.")
    known = set(spelled(subject).names)
    for original, word in zip(dict.fromkeys(word.strip() for word in words), bare, strict=False):
        if word not in known:
            single_tokens(subject, [f" {original}"])
            raise ToolError(f"{original!r} is no word that could be a guess: name one of {SHORTEST} letters or more.")
    return bare
