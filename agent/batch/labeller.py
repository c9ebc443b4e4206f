"""The pipeline of a batch: many latents in flight, each explained, scored and recorded.

1. Latents stand in a circle in an order drawn by the seed; a few workers walk it. Explanations are written some
   latents ahead, so that whenever a scorer is done the next one's questions are ready: the LLM never waits.
2. A latent is explained once by each method. Its experiment is in the ledger before its explanation.
3. Each explanation is scored by every scorer, beside the floor: the explanation of the next latent of the circle
   that has a different one. The order being fixed, a second run asks the same questions, which the reply cache
   answers.
4. What fails is an experiment with an error. An endpoint that fails ends the batch; a spent budget ends it early.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.batch.earlier import Earlier
from agent.batch.labels import Label, by_scorer
from agent.batch.report import Batch
from agent.screen.console import Advance
from prompts.errors import BudgetSpent
from prompts.providers import Role
from store.errors import UserError
from store.types import Experiment, Explanation, Fact, Score

if TYPE_CHECKING:
    from tools.workbench.context import Context

AHEAD = 2  # latents explained ahead for each one that is being scored
COMPANIONS = 3  # latents outside the batch that may be explained for a floor when the batch has no other explanation
KEPT_EXPLANATIONS = 512  # with their evidence, in memory
TICK_S = 0.5


class Labeller:
    """One batch over `latents` (indices), `in_flight` of them being scored at a time; see the top of this file."""

    def __init__(
        self,
        context: "Context",
        earlier: Earlier,
        latents: Sequence[int],
        methods: Sequence[str],
        scorers: Sequence[str],
        in_flight: int,
        retry_failed: bool,
        advance: Advance,
    ) -> None:
        self.context = context
        self.llm = context.need_llm()
        self.latents = latents
        self.methods = methods
        self.scorers = scorers
        self.retry_failed = retry_failed
        self.advance = advance
        self.batch = Batch(asked=len(latents))
        self.earlier = earlier
        self.in_flight = in_flight
        order = context.rng("circle").permutation(len(latents)).tolist()
        self._circle = [latents[place] for place in order]
        self._place = {latent: place for place, latent in enumerate(self._circle)}
        self._explaining: dict[tuple[int, str], asyncio.Task[Label | None]] = {}
        self._explanations: OrderedDict[str, Explanation] = OrderedDict()
        self._labels: dict[tuple[int, str], Label] = {}
        self._sizes = {name: _sizes(name, context) for name in (*methods, *scorers)}
        # about how many requests a run makes, for the progress bar: a judge is asked about two texts on every snippet
        self._weight = {name: 2 * sum(self._sizes[name].values()) or 1 for name in scorers} | dict.fromkeys(methods, 1)
        self._recording: list[asyncio.Task[None]] = []
        self._finished = 0  # weight of the runs that are over
        self._asked = 0  # of which the LLM was asked in this batch
        self._known: set[int] = set()

    async def run(self) -> Batch:
        """Labels all; the outcome of what was done when a budget ends it. Raises the first error of any other kind."""
        started = time.monotonic()
        todo = iter(self._circle)
        ticker = asyncio.create_task(self._tick(started))
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for _ in range(min(self.in_flight, len(self._circle))):
                    group.create_task(self._work(todo))
        except BaseExceptionGroup as failures:
            first = gravest(failures)
            if not isinstance(first, BudgetSpent):
                raise first from None
            self.batch.stopped = str(first)
        finally:
            ticker.cancel()
            await asyncio.gather(*self._recording)
        budget = self.llm.budget
        self.batch.calls, self.batch.usd, self.batch.unpriced = budget.calls, budget.usd, budget.unpriced
        self.batch.seconds = time.monotonic() - started
        places = {latent: place for place, latent in enumerate(self.latents)}
        shown = sorted(self._labels, key=lambda key: (places[key[0]], key[1]))
        self.batch.labels = [self._labels[key] for key in shown]
        self.batch.earlier = len(self._known)
        return self.batch

    async def _work(self, todo: Iterator[int]) -> None:
        for latent in todo:
            limit = self.llm.budget.max_hours
            if limit is not None and self.llm.budget.hours >= limit:
                raise BudgetSpent(
                    "hours", f"The time limit of {limit:g} hours is reached; run again with more to go on."
                )
            place = self._place[latent]
            for soon in self._circle[place : place + 1 + AHEAD * self.in_flight]:
                for method in self.methods:
                    self._explained(soon, method)
            for method in self.methods:
                await self._label(latent, method)

    async def _label(self, latent: int, method: str) -> None:
        label = await self._explained(latent, method)
        self._finished += self._weight[method]
        if label is None:
            self._finished += sum(self._weight[scorer] for scorer in self.scorers)
            return
        self._labels[latent, method] = label
        scores = await asyncio.gather(*(self._score(label, scorer) for scorer in self.scorers))
        self._labels[latent, method] = replace(label, scores=by_scorer(filter(None, scores)))

    def _explained(self, latent: int, method: str) -> asyncio.Task[Label | None]:
        """The latent's label, begun once; None when it fails."""
        if (latent, method) not in self._explaining:
            self._explaining[latent, method] = self._group.create_task(self._explain(latent, method))
        return self._explaining[latent, method]

    async def _explain(self, latent: int, method: str) -> Label | None:
        from tools.workbench.results import explanation_of

        explainer = self._author(method, Role.EXPLAINER)
        input = {"latent": latent, **self._sizes[method]}
        if (label := self.earlier.label(self._key(method, input), explainer)) is not None:
            if latent in self._place:
                self._known.add(latent)
            return label
        experiment = await self._run(method, latent, input, explainer)
        if experiment is None:
            return None
        explanation = explanation_of(experiment)
        self._record(explanation)
        self._keep(explanation)
        return Label(explanation.id, explanation.latent, explanation.text, explanation.method, explanation.explainer)

    async def _score(self, label: Label, scorer: str) -> Score | None:
        from tools.workbench.results import documents_shown, score_of

        judge = self._author(scorer, Role.JUDGE)
        score = self.earlier.score(label.id, scorer, judge, self._sizes[scorer].get("positives"))
        if score is None:
            explanation = await self._explanation(label.id)
            input = await self._score_input(label, explanation, scorer)
            if input is not None:
                input |= {"shown_documents": documents_shown(explanation), **self._sizes[scorer]}
                experiment = await self._run(scorer, label.index, input, judge)
                if experiment is not None:
                    score = score_of(experiment, explanation)
                    self._record(score)
        self._finished += self._weight[scorer]
        return score

    async def _score_input(self, label: Label, explanation: Explanation, scorer: str) -> dict[str, Any] | None:
        """What a scorer is asked, the floor included; None for a scorer of graphs and a label without one."""
        from tools.workbench.registry import get_tool

        other = await self._other(label)
        if "graph" not in get_tool(scorer).input.model_fields:
            return {"latent": label.index, "text": label.text, "floor_text": other.text if other else None}
        if explanation.graph is None:
            return None
        rival = (await self._explanation(other.id)).graph if other else None
        return {"latent": label.index, "graph": explanation.graph, "floor_graph": rival}

    async def _other(self, label: Label) -> Label | None:
        """The next latent's label in the circle whose text differs; failing that, one of up to three companions'."""
        start = self._place[label.index]
        for latent in self._circle[start + 1 :] + self._circle[:start]:
            if (other := await self._explained(latent, label.method)) and not _same(other, label):
                return other
        firing = self.context.need_harvest().stats().count.nonzero()[0]
        for latent in self.context.rng("companions").permutation(firing)[: COMPANIONS + len(self._circle)].tolist():
            if latent in self._place:
                continue
            if (other := await self._explained(latent, label.method)) and not _same(other, label):
                return other
        return None

    async def _run(self, tool: str, latent: int, input: dict[str, Any], author: str) -> Experiment | None:
        """The successful experiment of this run, an earlier one's if its outcome was lost; None when it failed."""
        from tools.workbench.run import run

        key = self._key(tool, input)
        experiment: Experiment | None = None
        if (id := self.earlier.unused(key)) is not None:
            experiment = await asyncio.to_thread(self.context.ledger.get, Experiment, id)
            output = experiment.output if experiment else None
            if output is None or author not in (output.get("explainer"), output.get("judge")):
                experiment = None
        reason = None if self.retry_failed or experiment else self.earlier.failure(key, author)
        if experiment is None and reason is None:
            experiment = await run(tool, input, self.context)
            self._asked += self._weight[tool]
            reason = experiment.error
        if reason is None:
            return experiment
        if latent in self._place:
            self.batch.failures.append((str(self.context.subject.latent(latent)), tool, reason))
        return None

    def _key(self, tool: str, input: dict[str, Any]) -> str:
        from tools.workbench.run import key_of

        return key_of(tool, input, self.context)

    def _author(self, tool: str, role: Role) -> str:
        """The LLM that `tool` asks in this role, "none" for a tool that asks none."""
        from tools.workbench.registry import get_tool

        return self.llm.endpoints[role].model if get_tool(tool).is_async else "none"

    def _record(self, fact: Fact) -> None:
        """Hands `fact` to the ledger, which commits in order, without waiting; the batch ends when all are in it."""
        self._recording.append(asyncio.create_task(self.context.ledger.record(fact)))

    def _keep(self, explanation: Explanation) -> None:
        self._explanations[explanation.id] = explanation
        while len(self._explanations) > KEPT_EXPLANATIONS:
            self._explanations.popitem(last=False)

    async def _explanation(self, id: str) -> Explanation:
        if id not in self._explanations:
            found = await asyncio.to_thread(self.context.ledger.get, Explanation, id)
            assert found is not None, "rows never go away"
            self._keep(found)
            return found
        return self._explanations[id]

    async def _tick(self, started: float) -> None:
        scoring = sum(self._weight[scorer] for scorer in self.scorers)
        total = len(self.latents) * sum(self._weight[method] + scoring for method in self.methods)
        while True:
            budget = self.llm.budget
            under_way = max(0, budget.calls - self._asked)
            rate = budget.calls / max(time.monotonic() - started, 1e-9)
            price = f"${budget.usd:.4f}" + (" + unknown prices" if budget.unpriced else "")
            done = min(self._finished + under_way, total)
            self.advance(done, total, f"{len(self._labels):,} latents, {rate:.1f} calls/s, {price}")
            await asyncio.sleep(TICK_S)


def _sizes(tool: str, context: "Context") -> dict[str, int]:
    """The numbers that `tool` would take from whether its LLM is capable: stated, they are part of a run's key."""
    from tools.labelling.explain_latent import CAPABLE_WINDOWS, SMALL_WINDOWS
    from tools.labelling.explain_latent import Input as ExplainInput
    from tools.workbench.judging import JudgeInput, how_many
    from tools.workbench.registry import get_tool

    input = get_tool(tool).input
    if issubclass(input, JudgeInput):
        positives, negatives = how_many(context, input.model_validate({"latent": 0, "text": "any"}))
        return {"positives": positives, "negatives": negatives}
    if input is ExplainInput:
        capable = context.need_llm().endpoints[Role.EXPLAINER].capable
        return {"windows": CAPABLE_WINDOWS if capable else SMALL_WINDOWS}
    return {}


def _same(one: Label, other: Label) -> bool:
    return one.text.casefold() == other.text.casefold()


def gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to report: a bug before an endpoint's or the disk's, and a spent budget last."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(gravest(error) if isinstance(error, BaseExceptionGroup) else error)
    return min(leaves, key=lambda error: (isinstance(error, UserError), isinstance(error, BudgetSpent)))
