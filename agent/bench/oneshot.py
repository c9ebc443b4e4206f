"""One-shot labelling of a planted latent: explain it, check the explanation, and try again while the budget allows.

Further tries are shown other examples of the latent. Kept is the label that does best on its own check, detection on
the scoring half of the harvest: what a user without the truth would do with that many tokens.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from agent.bench.runs import Metered, Runs, output
from agent.bench.trials import Said
from prompts.providers import Role

if TYPE_CHECKING:
    from prompts.ask import LLM
    from tools.workbench.context import Context

TRIES = 8


class OneShot:
    """`tokens`: the budget of one latent, of prompts and replies; the first try is made whatever it costs. `items`: how
    many snippets of each side a label is checked on."""

    mode = "oneshot"

    def __init__(self, context: "Context", runs: Runs, tokens: int, items: int) -> None:
        self._context = context
        self._runs = runs
        self._tokens = tokens
        self._items = items

    async def say(self, latent: int) -> Said:
        """What one-shot labelling says of `latent`; it stands where its check's interval clears chance."""
        meter = Metered(self._context.need_llm())
        context = replace(self._context, llm=cast("LLM", meter))
        by_output = output(await self._runs("explain_by_output", {"latent": latent}, context, Role.EXPLAINER))
        tries: list[tuple[float, str, bool]] = []  # value of the check, label, does it clear chance?
        failure, spent = None, 0
        while len(tries) < TRIES:
            other = replace(context, seed=context.seed + len(tries))
            explained = await self._runs("explain_latent", {"latent": latent}, other, Role.EXPLAINER)
            meter.calls.update(call for run in (by_output, output(explained)) if (call := run.get("call")))
            if explained.output is None:
                failure = explained.error
                break
            tries.append(await self._checked(latent, explained.output, context))
            before, spent = spent, await asyncio.to_thread(meter.tokens, context.ledger)
            if spent + (spent - before) > self._tokens:
                break
        _, reads, stands = max(tries, default=(0.0, None, False))
        return Said(
            latent=latent,
            reads=reads,
            writes=by_output.get("text"),
            stands=stands,
            stands_writing=bool(by_output.get("above_controls")),
            tokens=await asyncio.to_thread(meter.tokens, context.ledger),
            calls=len(meter.calls),
            failure=failure if not tries else None,
        )

    async def _checked(self, latent: int, explained: dict[str, Any], context: "Context") -> tuple[float, str, bool]:
        from tools.workbench.run import run

        shown = sorted({example["document"] for example in explained["evidence"]})
        asked = {"latent": latent, "text": explained["text"], "shown_documents": shown}
        asked |= {"positives": self._items, "negatives": self._items}
        found = output(await run("score_detection", asked, context))  # asked again, so that its calls are counted
        return found.get("value", 0.0), explained["text"], found.get("low", 0.0) > found.get("chance", 1.0)
