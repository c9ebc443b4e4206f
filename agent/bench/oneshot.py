"""One-shot labelling of a planted latent: explain it, check the explanation, and try again while the budget allows.

Further tries are shown other examples of the latent. Kept is the label that does best on its own check, detection on
the scoring half of the harvest: what a user without the truth would do with that many tokens.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.bench.runs import Runs, calls, output, tokens
from agent.bench.trials import Said
from prompts.providers import Role

if TYPE_CHECKING:
    from tools.workbench.context import Context

TRIES = 8


@dataclass(frozen=True)
class Try:
    """A label and its check, an output of score_detection; without one, why it could not be made."""

    label: str
    check: Mapping[str, Any]
    failure: str | None

    @property
    def value(self) -> float:
        """To choose by: what could not be checked comes last."""
        return float(self.check.get("value", -1.0))

    @property
    def stands(self) -> bool:
        return bool(self.check) and self.check["low"] > self.check["chance"]


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
        context = self._context
        by_output = output(await self._runs("explain_by_output", {"latent": latent}, context, Role.EXPLAINER))
        tries: list[Try] = []
        made, failure, spent = calls(by_output), None, 0
        while len(tries) < TRIES:
            other = replace(context, seed=context.seed + len(tries))
            explained = await self._runs("explain_latent", {"latent": latent}, other, Role.EXPLAINER)
            made |= calls(output(explained))
            if explained.output is None:
                failure = explained.error
                break
            tries.append(await self._checked(latent, explained.output))
            made |= calls(tries[-1].check)
            before, spent = spent, await asyncio.to_thread(tokens, context.ledger, made)
            if spent + (spent - before) > self._tokens:
                break
        best = max(tries, key=lambda each: each.value, default=None)
        return Said(
            latent=latent,
            reads=best.label if best else None,
            writes=by_output.get("text"),
            stands=best is not None and best.stands,
            stands_writing=bool(by_output.get("above_controls")),
            tokens=await asyncio.to_thread(tokens, context.ledger, made),
            calls=len(made),
            failure=best.failure if best else failure,
        )

    async def _checked(self, latent: int, explained: dict[str, Any]) -> Try:
        shown = sorted({example["document"] for example in explained["evidence"]})
        asked = {"latent": latent, "text": explained["text"], "shown_documents": shown}
        asked |= {"positives": self._items, "negatives": self._items}
        run = await self._runs("score_detection", asked, self._context, Role.JUDGE)
        failure = f"its label could not be checked: {run.error}" if run.error else None
        return Try(explained["text"], output(run), failure)
