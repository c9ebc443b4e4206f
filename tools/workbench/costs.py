"""How long a tool will take, from how fast this machine runs this model: measured once, by two short passes."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

from tools.workbench.doses import ROWS, WIDTH
from tools.workbench.metrics import TOGETHER
from tools.workbench.subject import Subject

SHORT, LONG = 8, 256  # tokens of the two passes
CHAT = 30  # tokens that a chat template adds
SEARCH = 10  # passes over plain text until a strength is found that has a given cost
CAUSAL = 14.5  # readings of the prompts in a measurement beside its controls
REPAIR = 2  # and where it is taken apart
ILLUSION = 5  # and in the check of a direction
EVERYWHERE = 5  # times as long: a short pass that is edited wherever the residual stream is read


class Pace(NamedTuple):
    """Seconds that any forward pass takes, and those that each of its tokens adds."""

    start: float
    token: float

    def reading(self, subject: Subject, texts: Sequence[str], chat: bool = False) -> float:
        """Seconds of one pass over prompts, those of equal length together."""
        lengths = Counter(1 + len(ids) + CHAT * chat for ids in subject.tokenize(texts))
        seconds = 0.0
        for length, count in lengths.items():
            seconds += self.start * -(-length * count // TOGETHER) + self.token * length * count
        return seconds

    def writing(self, rows: int, prompt: int, tokens: int) -> float:
        """Seconds until so many rows of `prompt` tokens have each been continued by `tokens`, all at once."""
        return self.start * (tokens + 1) + self.token * rows * (prompt + tokens)

    def sampling(self, rows: int, prompt: int, tokens: int) -> float:
        """Seconds until they have been continued and read again."""
        return self.writing(rows, prompt, tokens) + self.start + self.token * rows * (prompt + tokens)

    @property
    def plain(self) -> float:
        """Seconds of one pass over the text by which costs are measured."""
        return self.start + self.token * ROWS * WIDTH

    @property
    def search(self) -> float:
        """Seconds until a strength is found that has a given cost."""
        return SEARCH * self.plain


@lru_cache(maxsize=4)
def pace(subject: Subject) -> Pace:
    """The subject's pace on this machine, as busy as it is now. Takes about a second."""
    text = subject.calibration_tokens[:1, :LONG]

    def seconds(tokens: int) -> float:
        begun = perf_counter()
        float(subject.logits(text[:, :tokens])[0, -1, 0])  # waits for the device
        return perf_counter() - begun

    seconds(SHORT)  # the first pass is slower
    short, long = seconds(SHORT), seconds(LONG)
    token = max(0.0, long - short) / (LONG - SHORT)
    return Pace(max(0.0, short - SHORT * token), token)


def causal(
    subject: Subject,
    texts: Sequence[str],
    chat: bool,
    directions: bool = False,
    everywhere: bool = False,
    repaired: bool = False,
) -> float:
    """Seconds of `tools.workbench.causal.measured` on prompts: do the edits change directions, and in every layer, and
    is self-repair told?"""
    readings = (CAUSAL + REPAIR * repaired) * (EVERYWHERE if everywhere else 1) + ILLUSION * directions
    return readings * pace(subject).reading(subject, texts, chat)
