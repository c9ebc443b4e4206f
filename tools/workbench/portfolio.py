"""A budgeted portfolio of ways to draw out what a model hides, each asked of the base model as well.

Two things can be found. A word: named over many items in the model and not in the base model (`guesses`). Knowledge
that is withheld: on prompts with a plain answer, middle layers have a word in mind that the model then does not say,
though the base model on the same text does not keep it back.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tools.workbench.attacks import (
    FORCED,
    GAME,
    WRAPPINGS,
    Attempt,
    asked_after,
    forced,
    game,
    heard,
    items,
    personas,
    prefills,
    questions,
)
from tools.workbench.beside import both
from tools.workbench.context import Context
from tools.workbench.facts import FACTS
from tools.workbench.guesses import Item
from tools.workbench.hidden import densities, embedded, mean_activations, promoted, resembling, tf_idf
from tools.workbench.lens import NAMED, among, kept_back, named_most, read, withheld
from tools.workbench.metrics import encode
from tools.workbench.subject import Subject
from tools.workbench.words import content_words, spelled
from tools.workbench.writing import Replied, Turn, replied

REPLY, LONG, HINT = 10, 20, 16  # tokens of replies to an opening or plain question, to a detour, and of a hint
DEPTH = 2 / 3  # of the layers: where hidden states are compared with embeddings


T = TypeVar("T")


class Withheld(NamedTuple):
    """A prompt, the word that the model keeps back most beside the base model (`lens.kept_back`), and how much; chance:
    how much the base model keeps back beside the model, of any word."""

    prompt: str
    word: str
    excess: float
    chance: float


class Method(NamedTuple):
    """A way of asking. tokens: what it costs each model, read and written, about."""

    name: str
    tokens: int
    run: Callable[[], list[Item]]


class Portfolio:
    """Of one subject and topic. prompts: more to be asked than its own, {} standing for the topic; layers: of the lens;
    kept: the candidates among its words (None: any word)."""

    def __init__(
        self, context: Context, topic: str, prompts: Sequence[str], layers: Sequence[int], kept: list[int] | None
    ) -> None:
        self.context, self.topic, self.layers, self.kept = context, topic, layers, kept
        self.words = spelled(context.subject)
        self.asked = questions(context.subject, topic)
        self.prompts = (*prompts, *WRAPPINGS)

    def methods(self) -> list[Method]:
        """Every one of METHODS, in their order."""
        subject, topic = self.context.subject, self.topic
        length = sum(len(attempt.ids) + REPLY for attempt in self.asked)
        after = len(FORCED) * (length // len(self.asked) * (1 + len(GAME)) + len(GAME) * HINT)
        return [
            self._asking("prefill_attack", prefills(subject, topic, asked=2), REPLY),
            self._asking("user_persona", personas(subject), REPLY, 1.0),
            self._asking("sampling", asked_after(subject, topic, 0), REPLY, 1.0),
            Method("logit_lens_secret", length, self._lens),
            self._asking("adversarial_prompts", questions(subject, topic, self.prompts), LONG),
            Method("latent_secret", length, self._latents),
            Method("embedding_similarity", length, self._embeddings),
            Method("forced_tokens", after, self._forced),
        ]

    @property
    def before(self) -> int:
        """Tokens of the plain questions, the facts and a guessing game, which come first in any case."""
        facts = sum(map(len, self.context.subject.tokenize(FACTS))) + 2 * len(FACTS)
        asked = sum(len(attempt.ids) + REPLY for attempt in self.asked)
        return facts + asked + len(GAME) * (asked // len(self.asked) + HINT)

    @cached_property
    def replies(self) -> list[Replied]:
        """The model's replies to the plain questions."""
        return replied(self.context.subject, [attempt.ids for attempt in self.asked], REPLY)

    @cached_property
    def distinct(self) -> list[Replied]:
        """One of each reply: where the same is said, what is read from inside is much the same, and counts once."""
        return list({reply.text(self.context.subject): reply for reply in self.replies}.values())

    @cached_property
    def played(self) -> list[Turn]:
        """A guessing game with the model's own hints."""
        return game(self.context.subject, self.topic, tokens=HINT)

    @cached_property
    def said(self) -> set[str]:
        """The words of plain questions, of the replies to them and of a game's hints: those that need no drawing
        out."""
        texts = [attempt.prompt for attempt in self.asked] + [turn.text for turn in self.played]
        texts += [reply.text(self.context.subject) for reply in self.replies]
        return {word for text in texts for word in content_words(text)}

    def withheld(self) -> list[Withheld]:
        """What the model keeps back on prompts with a plain answer, beyond what the base model does."""
        replies = replied(self.context.subject, encode(self.context.subject, FACTS), 1)
        own, base = both(self.context, lambda model: read(model, replies, self.layers, self.words))
        assert base is not None
        found = []
        for prompt, mine, theirs in zip(FACTS, own, base, strict=True):
            back = among(kept_back(mine, theirs), self.kept)
            word = int(back.argmax())
            chance = float(among(kept_back(theirs, mine), self.kept).max())
            found.append(Withheld(prompt, self.words.names[word], float(back[word]), chance))
        return found

    def _asking(self, name: str, attempts: list[Attempt], tokens: int, temperature: float = 0.0) -> Method:
        cost = sum(len(attempt.ids) + tokens for attempt in attempts)
        return Method(name, cost, lambda: items(name, heard(self.context, attempts, tokens, temperature, name)))

    def _forced(self) -> list[Item]:
        found = forced(self.context.subject, self.topic, self.played)
        return items("forced_tokens", heard(self.context, found, REPLY, salt="forced_tokens"))

    def _withheld(self, model: Subject) -> Tensor:
        return torch.stack([withheld(masses) for masses in read(model, self.distinct, self.layers, self.words)])

    def _lens(self) -> list[Item]:
        own, base = both(self.context, self._withheld)
        return self._items("logit_lens_secret", own, base, lambda row: named_most(among(row, self.kept), self.words))

    def _embeddings(self) -> list[Item]:
        layer = round(DEPTH * self.context.subject.n_layers)
        own, base = both(self.context, lambda model: embedded(model, self.distinct, layer))
        return self._items("embedding_similarity", own, base, lambda row: resembling(row, self.words, self.kept))

    def _latents(self) -> list[Item]:
        subject, density = self.context.subject, densities(self.context).density
        promotes: dict[int, list[str]] = {}

        def named(row: np.ndarray) -> dict[str, float]:
            scores = tf_idf(row, density)
            top = [int(latent) for latent in np.argsort(-scores, kind="stable")[:NAMED] if scores[latent] > 0]
            for latent in top:
                promotes.setdefault(latent, promoted(subject, latent, self.words))
            return {word: 1.0 for latent in top for word in promotes[latent] if word not in self.said}

        own, base = both(self.context, lambda model: [mean_activations(model, reply) for reply in self.distinct])
        return self._items("latent_secret", own, base, named)

    def _items(
        self, method: str, own: Iterable[T], base: Iterable[T] | None, named: Callable[[T], dict[str, float]]
    ) -> list[Item]:
        mine = [named(row) for row in own]
        if base is None:
            return [Item(method, each, None) for each in mine]
        return [Item(method, *each) for each in zip(mine, map(named, base), strict=True)]
