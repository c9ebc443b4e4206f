"""The words on which a latent fires as a rule: words as a reader sees them, not the tokens they are cut into."""

from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.examples import Half, need_firings
from tools.workbench.lexicon import lexicon
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    """Which latent, and how many words of which half: every other one is in "explain", the rest in "score"."""

    latent: int
    n: int = Field(12, ge=1, le=100)
    half: Half | None = None


class FiringWord(ToolOutput):
    """A word, its mean activation over all its occurrences (as a share of the latent's maximum), how many there are
    and on how many of them the latent fires."""

    word: str
    mean: float
    n: int
    fires: int


class Output(ToolOutput):
    """`words` by the activation that they gather. `all`: how many there are, in both halves."""

    latent: str
    density: float
    all: int
    words: tuple[FiringWord, ...]


@tool(version=1)
def firing_words(input: Input, context: Context) -> Output:
    """Lists the words on which a latent fires at least every second time, those first that make it fire most in all.

    A latent that has few of them fires by what is around a word, or on parts of words in some contexts only.
    """
    subject, harvest = context.subject, context.need_harvest()
    latent = subject.latent(input.latent)
    need_firings(harvest, input.latent)
    words = lexicon(subject, harvest, input.latent, context.seed)
    return Output(
        latent=str(latent),
        density=float(harvest.stats().density[input.latent]),
        all=len(words.firing()),
        words=tuple(
            FiringWord(word=entry.word, mean=entry.sum / entry.n, n=entry.n, fires=entry.fires)
            for entry in words.firing(input.half)[: input.n]
        ),
    )
