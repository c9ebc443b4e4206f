"""Which latents have to do with a task? A judge sees where each is strongest in some texts and says so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prompts.ask import Answer
from prompts.providers import Role
from tools.workbench.batches import forward
from tools.workbench.context import Context
from tools.workbench.examples import Snippet, bounds
from tools.workbench.judging import CANDIDATES, margin
from tools.workbench.readout import Texts
from tools.workbench.results import llm_failed
from tools.workbench.subject import Subject
from tools.workbench.texts import mark, pieces

SNIPPETS, WIDTH = 6, 16  # that a judge sees of a latent, and tokens of each


class Verdict(NamedTuple):
    """Whether a latent has nothing to do with the task; the judge's margin, positive where it has (None: unreadable, or
    no LLM judged), and the id of the LLM call."""

    latent: int
    irrelevant: bool
    margin: float | None = None
    call: str | None = None


def places(subject: Subject, texts: Texts, latents: Sequence[int]) -> list[tuple[str, ...]]:
    """Of each latent the places where it is strongest, one a text, marked where it fires."""
    best = {latent: np.argsort(-texts.peaks[:, latent], kind="stable")[:SNIPPETS] for latent in latents}
    needed = [texts.windows[i] for i in sorted({int(i) for own in best.values() for i in own})]
    active: dict[int, np.ndarray] = {}  # text -> float32[tokens, latents]
    for read in forward(subject, needed):
        encoded = (subject.dictionary.encode(read.residual) * read.valid[..., None])[..., list(latents)].float().cpu()
        active |= {
            window.id: own[: len(window.tokens)].numpy() for window, own in zip(read.windows, encoded, strict=True)
        }
    found = []
    for column, latent in enumerate(latents):
        shown = []
        for i in best[latent]:
            own = active[int(i)][:, column]
            if own.max() > 0:
                start, end = bounds(len(own), int(own.argmax()), WIDTH)
                snippet = Snippet(texts.windows[i], start, own[start:end])
                shown.append(mark(pieces(subject, snippet.tokens), snippet.firing).strip())
        found.append(tuple(shown))
    return found


async def judged(
    context: Context, task: str, latents: Sequence[int], snippets: Sequence[Sequence[str]]
) -> tuple[str, list[Verdict]]:
    """The judge's name and its verdict on each latent; one that cannot be read calls nothing irrelevant. ToolError when
    none can be read."""
    llm = context.need_llm()
    judge = llm.endpoints[Role.JUDGE].model
    values = [{"task": task, "snippets": list(own)} for own in snippets]
    answers = await llm.ask_many(Role.JUDGE, "judge_relevance", values, top_logprobs=CANDIDATES, max_tokens=1)
    verdicts = []
    for latent, answer in zip(latents, answers, strict=True):
        value = margin(answer)
        call = answer.call_id if isinstance(answer, Answer) else None
        verdicts.append(Verdict(latent, value is not None and value < 0, value, call))
    if all(verdict.margin is None for verdict in verdicts):
        raise llm_failed(judge, "readable verdict on any latent: name another judge, or give the latents yourself.")
    return judge, verdicts
