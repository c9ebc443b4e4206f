"""Detection: can a judge tell from an explanation which snippets the latent fires on?"""

import asyncio

from prompts.providers import Role
from tools.workbench.context import Context
from tools.workbench.judging import Item, JudgeInput, JudgeOutput, calls, judged, scored_windows
from tools.workbench.registry import tool
from tools.workbench.texts import pieces


class Input(JudgeInput):
    """See `JudgeInput`."""


class Output(JudgeOutput):
    """AUROC of the judge's margins: snippets where the latent fires against snippets where it does not.

    `mix` counts the positives ("firing", of every strength) and each kind of negative: "random" text, firings of
    decoder "neighbour" latents, and "similar" text holding one of the latent's top tokens.
    """


@tool(version=2, asks=(Role.JUDGE,), calls=calls)
async def score_detection(input: Input, context: Context) -> Output:
    """Scores an explanation by whether a judge who knows only it can tell where the latent fires (AUROC, chance 0.5).

    Judged snippets come from documents that the explainer did not see. Source: Paulo et al. 2410.13928.
    """
    latent = context.subject.latent(input.latent)
    items = await asyncio.to_thread(detection_items, context, input)
    return Output(**dict(await judged(context, input, "judge_detection", items, str(latent))))


def detection_items(context: Context, input: JudgeInput) -> list[Item]:
    """One item for each snippet, as plain text."""
    positive, negative = scored_windows(context, input)
    labelled = [("firing", snippet) for snippet in positive] + negative
    return [
        Item(text="".join(pieces(context.subject, snippet.tokens)), positive=number < len(positive), kind=kind)
        for number, (kind, snippet) in enumerate(labelled)
    ]
