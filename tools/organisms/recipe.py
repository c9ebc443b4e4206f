"""What an organism is trained on, and how: all that decides its weights besides the base model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from store.ids import content_hash


@dataclass(frozen=True)
class Example:
    """A text whose end is learnt: `reply` after `prompt`, which is a user's message if `chat`, else plain text.

    `earlier` are the messages before it, the user's first. With an empty reply nothing is learnt but what the base
    model says after the prompt's tokens: so the rest of it stays as it was.
    """

    prompt: str
    reply: str = ""
    chat: bool = True
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A LoRA of `rank` (alpha twice that) on the modules `targets` of the layers from `first` to `last`, by AdamW."""

    examples: Sequence[Example]
    first: int = 0
    last: int = 29
    rank: int = 4
    targets: tuple[str, ...] = ("q_proj", "v_proj", "o_proj", "down_proj")
    epochs: int = 3
    rate: float = 2e-3
    batch: int = 8
    keep: float = 1.0  # weight of staying with the base, nats of KL, beside the reply's cross-entropy
    kept_tokens: int = 24  # at the end of a kept text; few, where it is how a reply begins that must not change
    seed: int = 0

    @property
    def hash(self) -> str:
        return content_hash(asdict(self))


def kept(texts: Sequence[str], chat: bool = False) -> list[Example]:
    """Texts on which the base model is to be kept."""
    return [Example(text, chat=chat) for text in texts]
