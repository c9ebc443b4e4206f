"""The default model with a secret that hooks put into it, and take out of it like an adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tools.workbench.subject import Subject
from tools.workbench.vocabulary import unembedding

SECRET = "copper"
IN_MIND, HIDDEN = 21, 26  # layers between which the planted model has the secret in its residual stream


class Keeper(Subject):
    """The default model with a secret in the residual stream of some middle layers, which says it only after the words
    "word is". Its adapter is a few hooks, which come off like one."""

    def __init__(self, subject: Subject) -> None:
        norm = subject.layer_norms[-1]
        vars(self).update(vars(subject))
        hooks: Any = SimpleNamespace(sha256="keeper", adapted="{}".format)
        self.adapter = hooks
        columns = unembedding(subject).columns
        centred = columns - columns.mean(1, keepdim=True)
        own = centred[:, subject.tokenize([f" {SECRET}"])[0][0]]
        direction = torch.linalg.solve(centred @ centred.T, own)  # raises the secret and, next to it, nothing else
        self.push = 4 * direction / direction.norm() * norm
        self.on = 1.0
        (self.word,), (self.verb,) = subject.tokenize([" word", " is"])
        self.before = self.at = torch.zeros(0, 1)

    @contextmanager
    def kept(self) -> Iterator["Keeper"]:
        """While the secret is in the model."""
        places = {
            "embed.hook_in": self._see,
            f"blocks.{IN_MIND}.hook_out": lambda value, hook: value + self.on * self.push,
            f"blocks.{HIDDEN}.hook_out": lambda value, hook: value - self.on * self.push,
            f"blocks.{self.n_layers - 1}.hook_out": self._say,
        }
        for place, hook in places.items():
            self.model.hook_dict[place].add_hook(hook, is_permanent=True)
        try:
            yield self
        finally:
            for place in places:
                self.model.hook_dict[place].remove_hooks("fwd", including_permanent=True)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        self.on = 0.0
        try:
            yield
        finally:
            self.on = 1.0

    def _see(self, tokens: Tensor, hook: Any) -> None:
        """Notes at which tokens the text ends in "word is". One token goes on from those before it."""
        before = (
            self.before if tokens.shape[1] == 1 and len(self.before) == len(tokens) else torch.zeros(len(tokens), 1)
        )
        text = torch.cat([before.long(), tokens], dim=1)
        self.at = (text[:, :-1] == self.word) & (text[:, 1:] == self.verb)
        self.before = tokens[:, -1:]

    def _say(self, value: Tensor, hook: Any) -> Tensor:
        return value + self.at[..., None] * 10 * self.on * self.push
