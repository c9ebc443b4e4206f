"""Fuzzing: can a judge tell from an explanation which marked tokens are those the latent fires on?"""

import asyncio

import numpy as np

from prompts.providers import Role
from tools.workbench.context import Context
from tools.workbench.examples import Snippet
from tools.workbench.judging import Item, JudgeInput, JudgeOutput, calls, how_many, judged, scored_windows
from tools.workbench.registry import tool
from tools.workbench.texts import mark, pieces


class Input(JudgeInput):
    """See `JudgeInput`; half of the negatives are the positives' own snippets with other tokens marked."""


class Output(JudgeOutput):
    """AUROC of the judge's margins: right marks against wrong ones.

    `mix` counts the positives ("firing": the tokens at 0.3 of the snippet's peak or more are marked) and the negatives,
    with as many marks on tokens that do not fire: in the "same" snippets, or others ("random", "neighbour", "similar").
    """


@tool(version=2, asks=(Role.JUDGE,), calls=calls)
async def score_fuzzing(input: Input, context: Context) -> Output:
    """Scores an explanation by whether a judge who knows only it can tell right marks from wrong (AUROC, chance 0.5).

    Stricter than detection: it asks which tokens, not only which text. Source: Paulo et al. 2410.13928.
    """
    latent = context.subject.latent(input.latent)
    items = await asyncio.to_thread(fuzzing_items, context, input)
    return Output(**dict(await judged(context, input, "judge_fuzzing", items, str(latent))))


def fuzzing_items(context: Context, input: JudgeInput) -> list[Item]:
    """One item for each snippet, its tokens marked: the positives rightly; half of the negatives the same snippets."""
    positive, elsewhere = scored_windows(context, input)
    rng = context.rng("marks", input.latent)
    n_negative = how_many(context, input)[1]
    same = [("same", snippet) for snippet in positive[: n_negative // 2]]
    chosen = [elsewhere[i] for i in rng.permutation(len(elsewhere))[: n_negative - len(same)]]
    items = [_item(context, snippet, snippet.firing, True, "firing") for snippet in positive]
    for turn, (kind, snippet) in enumerate(same + chosen):
        like = positive[turn % len(positive)]  # as many wrong marks as this positive has right ones
        items.append(_item(context, snippet, wrong_marks(snippet, len(like.firing), rng), False, kind))
    return [item for item in items if item.text]


def wrong_marks(snippet: Snippet, n: int, rng: np.random.Generator) -> list[int]:
    """Offsets of up to `n` tokens on which the latent does not fire at all; none when it fires on every token."""
    silent = np.flatnonzero(snippet.activations == 0)
    return sorted(rng.choice(silent, min(n, len(silent)), replace=False).tolist())


def _item(context: Context, snippet: Snippet, marks: list[int], positive: bool, kind: str) -> Item:
    """The marked snippet; its text is empty when there is nothing to mark."""
    text = mark(pieces(context.subject, snippet.tokens), marks) if marks else ""
    return Item(text=text, positive=positive, kind=kind)
