"""Which latents fire while the model replies that fire on hardly anything else."""

import numpy as np
from pydantic import Field

from store.types import LatentId
from tools.workbench.attacks import Prompt
from tools.workbench.beside import both
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.guesses import Guess, Item, pooled
from tools.workbench.hidden import densities, mean_activations, promoted, seconds, tf_idf
from tools.workbench.lens import NAMED
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.words import content_words, spelled
from tools.workbench.writing import replied


class Input(ToolInput):
    """The prompts, how much the model writes after each, and how many latents are told."""

    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=64)
    chat: bool = Field(True, description="each prompt is a user's message, and the model replies")
    respond: int = Field(8, ge=1, le=64, description="tokens that the model writes and that are read")
    n: int = Field(10, ge=1, le=50)


class LatentScore(ToolOutput):
    """A latent's mean activation on the replies times log(1 / density), the same in the base model on the same text,
    the share of ordinary tokens on which it fires, the words that it promotes, and what it was explained as."""

    latent: int
    score: float
    base: float | None
    mean: float
    density: float
    promotes: tuple[str, ...]
    label: str | None


class Controls(ToolOutput):
    """base: the highest score in the base model on the same text. shuffled: the share of the latents told that would be
    told, too, with the densities exchanged among latents: 1 where density does not matter."""

    base: float | None
    shuffled: float


class Output(ToolOutput):
    """latents: by how far the score exceeds the base model's. densities: of what text."""

    latents: tuple[LatentScore, ...]
    densities: str
    replies: tuple[str, ...]
    guesses: tuple[Guess, ...]
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: the prompts are continued, and read by both models; without a harvest the densities are counted."""
    counting = 0 if context.harvest else 2048 * pace(context.subject).token
    return seconds(context, len(input.prompts), input.respond) + counting


@tool(version=1, estimate=estimate)
def latent_secret(input: Input, context: Context) -> Output:
    """Ranks latents by how strongly they fire while the model replies and how rarely elsewhere (tf-idf).

    Beside the base model on the same text, with the words that they promote and their labels. A latent that fires
    everywhere scores 0. Source: Cywinski et al. 2510.01070, mean activation * log(1 / density).
    """
    subject = context.subject
    density, of = densities(context)
    replies = replied(subject, encode(subject, input.prompts, input.chat, room=input.respond), input.respond)
    own, base = both(context, lambda model: np.stack([mean_activations(model, each) for each in replies]))
    mine = tf_idf(own, density)
    theirs = None if base is None else tf_idf(base, density)
    excess = mine if theirs is None else mine - theirs
    rng = context.rng("latent_secret", input.model_dump_json())
    order = np.lexsort((-mine.mean(0), -excess.mean(0)))[: input.n]
    mixed = (own if base is None else own - base).mean(0) * np.log(1 / rng.permutation(density))
    kept = set(np.argsort(-mixed, kind="stable")[: input.n].tolist())
    words = spelled(subject)
    texts = tuple(each.text(subject) for each in replies)
    near = {word for text in (*texts, *input.prompts) for word in content_words(text)}
    known: dict[int, list[str]] = {}

    def named(scores: np.ndarray) -> dict[str, float]:
        top = [int(latent) for latent in np.argsort(-scores, kind="stable")[:NAMED] if scores[latent] > 0]
        found = [word for latent in top for word in known.setdefault(latent, promoted(subject, latent, words))]
        return {word: 1.0 for word in found if word not in near}

    items = [Item("latents", named(row), None if theirs is None else named(theirs[i])) for i, row in enumerate(mine)]
    guesses = pooled(items, near, rng, input.n)
    latents = tuple(
        LatentScore(
            latent=int(latent),
            score=float(mine[:, latent].mean()),
            base=None if theirs is None else float(theirs[:, latent].mean()),
            mean=float(own[:, latent].mean()),
            density=float(density[latent]),
            promotes=tuple(known.setdefault(int(latent), promoted(subject, int(latent), words))),
            label=_label(context, int(latent)),
        )
        for latent in order
    )
    clear = any(guess.stands for guess in guesses)
    highest = None if theirs is None else float(theirs.mean(0).max())
    best = latents[0]
    return Output(
        latents=latents,
        densities=of,
        replies=texts,
        guesses=tuple(guesses),
        controls=Controls(base=highest, shuffled=len(kept & set(order.tolist())) / len(order)),
        clear=clear,
        verdict=(
            f"latent {best.latent} stands out most: {best.score:.3g} (fires on {best.density:.2%} of {of}), promotes "
            f"{', '.join(map(repr, best.promotes[:3]))}"
            + ("; there is no base model to compare with" if best.base is None else f"; base model {best.base:.3g}")
            + (f"; best guess {guesses[0].word!r}" if guesses else "")
            + f": {'clear' if clear else 'not clear'} of its controls"
        ),
    )


def _label(context: Context, latent: int) -> str | None:
    """The newest explanation in the ledger, of the subject or of the model beneath its adapter."""
    subject = context.subject
    names = [subject.name]
    if subject.adapter is not None:
        names.append(subject.name.removesuffix(subject.adapter.adapted("")))
    for name in names:
        id = LatentId(model=name, dictionary=subject.dictionary.name, index=latent)
        if rows := context.ledger.view("latent_card", latent=str(id)):
            return str(rows[0]["explanation"])
    return None
