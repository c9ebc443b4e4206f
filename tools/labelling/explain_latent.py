"""Explains a latent by what it fires on: an LLM is shown snippets with the firing tokens marked."""

import asyncio
from collections import Counter

from pydantic import Field

from prompts.errors import NoAnswer
from prompts.providers import Role
from tools.workbench.context import Context
from tools.workbench.examples import WIDTH, Snippet, need_firings, spread, top
from tools.workbench.registry import ToolError, ToolInput, tool
from tools.workbench.results import ExplanationOutput, llm_failed, one_line
from tools.workbench.texts import mark, pieces

MIN_WINDOWS = 5  # different windows an explanation must rest on
CAPABLE_WINDOWS, SMALL_WINDOWS = 40, 10
SMALL_WIDTH = 24  # tokens of a snippet for a small LLM, which loses the thread in longer ones
TOP_SHARE = 0.4  # of the windows that are the strongest; the others come from firings of every strength
NAMED_TOKENS = 10
SMALL_REPLY = 64  # tokens


class Input(ToolInput):
    """Which latent, and how many snippets to show."""

    latent: int
    windows: int | None = Field(None, ge=MIN_WINDOWS, le=100, description="None: 40 for a capable LLM, 10 else")


class Output(ExplanationOutput):
    """The explanation, the snippets it rests on, and the tokens that were named as activating."""

    activating_tokens: tuple[str, ...]
    call: str = Field(description="id of the LLM call")


@tool(version=2, asks=(Role.EXPLAINER,))
async def explain_latent(input: Input, context: Context) -> Output:
    """Asks an LLM what the tokens that a latent fires on have in common, and returns its short answer.

    The snippets come from the half of the documents that no scorer uses: the strongest, and firings of every strength.
    Score the answer before believing it.
    """
    latent = context.subject.latent(input.latent)
    llm = context.need_llm()
    explainer = llm.endpoints[Role.EXPLAINER]
    n = input.windows or (CAPABLE_WINDOWS if explainer.capable else SMALL_WINDOWS)
    width = WIDTH if explainer.capable else SMALL_WIDTH
    shown = await asyncio.to_thread(chosen, context, input.latent, n, width)
    strings = [pieces(context.subject, snippet.tokens) for snippet in shown]
    tokens = activating(shown, strings)
    marked = [mark(text, snippet.firing) for text, snippet in zip(strings, shown, strict=True)]
    try:
        answer = await llm.ask(
            Role.EXPLAINER,
            "explain_latent",
            {"windows": marked, "tokens": tokens},
            max_tokens=None if explainer.capable else SMALL_REPLY,
        )
    except NoAnswer as failure:
        raise llm_failed(explainer.model, f"explanation: {failure}") from None
    return Output(
        latent=str(latent),
        text=one_line(answer, explainer.model),
        explainer=explainer.model,
        evidence=tuple(snippet.example(context.subject) for snippet in shown),
        activating_tokens=tuple(tokens),
        call=answer.call_id,
    )


def chosen(context: Context, latent: int, n: int, width: int) -> list[Snippet]:
    """Up to `n` different snippets of the explaining half, the strongest first. ToolError when there are under five."""
    harvest = context.need_harvest()
    need_firings(harvest, latent)
    strongest = top(harvest, latent, round(n * TOP_SHARE), "explain", width)
    seen = {snippet.window.id for snippet in strongest}
    others = spread(harvest, latent, n, "explain", context.rng("explain_latent", latent), width)
    fresh = [snippet for snippet in others if snippet.window.id not in seen]
    wanted = n - len(strongest)
    kept = [fresh[i * len(fresh) // wanted] for i in range(wanted)] if len(fresh) > wanted else fresh
    if len(strongest) + len(kept) < MIN_WINDOWS:
        raise ToolError(
            f"Latent {latent} fires in {len(strongest) + len(kept)} different windows of the explaining half, and an "
            f"explanation needs {MIN_WINDOWS}: harvest more text."
        )
    return strongest + kept


def activating(shown: list[Snippet], strings: list[list[str]]) -> list[str]:
    """The ten tokens most often marked, each without its blank margins."""
    counted: Counter[str] = Counter()
    for snippet, text in zip(shown, strings, strict=True):
        counted.update({text[i].strip() or repr(text[i]) for i in snippet.firing if text[i]})
    return [token for token, _ in counted.most_common(NAMED_TOKENS)]
