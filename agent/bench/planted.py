"""`glossator bench planted`: labels of latents whose meaning is known, each graded by what it predicts.

    1. Latents are drawn by the seed, every kind in turn, so that any number of them holds all kinds.
    2. Each mode labels each latent knowing nothing but its index; both have the same budget of tokens.
    3. A label is graded on held-out texts (of a latent that writes: words) beside its floor, the label that the same
       mode gave the next latent.

Every run of a tool is an experiment in the ledger. Killed and started again, it goes on: replies are not paid twice,
finished runs not repeated.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from agent.batch.labeller import gravest
from agent.bench.byagent import ByAgent
from agent.bench.oneshot import OneShot
from agent.bench.runs import Runs, output
from agent.bench.trials import Said, Trial, Way
from agent.screen.console import Advance, meter
from agent.session import Session
from prompts.budget import Budget
from prompts.errors import BudgetSpent
from prompts.providers import Role
from store.errors import UserError

if TYPE_CHECKING:
    from tools.workbench.context import Context

MODES = ("oneshot", "agent")
CORPUS = "mixed-french"  # unless another is named: every planted latent fires often enough in it
REQUESTS_PER_LATENT = 16  # in flight


@dataclass
class Bench:
    """The outcome of one `glossator bench planted`."""

    asked: int
    modes: tuple[str, ...]
    agent: str
    explainer: str
    judge: str
    trials: list[Trial] = field(default_factory=list)
    stopped: str | None = None  # why it ended early
    calls: int = 0  # sent by this run
    usd: float = 0.0
    seconds: float = 0.0


def bench_planted(session: Session, n: int | None, modes: Sequence[str], tokens: int, items: int) -> Bench:
    """Runs the benchmark on `n` latents (None: all): `tokens` for each latent and mode, `items` held-out ones a side.

    UserError when the session's dictionary is not the planted one.
    """
    from tools.organisms.planted.latents import planted
    from tools.organisms.planted.subject import PlantedSubject

    if not isinstance(session.subject, PlantedSubject):
        raise UserError("This benchmark needs the planted dictionary: leave --dictionary out.")
    if n is not None and n > len(planted()):
        raise UserError(f"There are {len(planted())} planted latents: ask for so many at most.")
    s = session.settings
    budget = Budget(s.max_usd, s.max_calls, s.max_hours)
    session.check_llm(budget, set(Role))
    harvest = session.harvest()
    llm = session.llm(budget)
    context = session.context(harvest, llm)
    latents = drawn(context, n)
    in_flight = 1 + s.concurrency // REQUESTS_PER_LATENT
    agent, explainer, judge = (llm.endpoints[role].model for role in (Role.AGENT, Role.EXPLAINER, Role.JUDGE))
    bench = Bench(len(latents), tuple(modes), agent, explainer, judge)

    async def all_modes() -> None:
        started = time.monotonic()
        runs = Runs(context)
        ways: dict[str, Way] = {
            "oneshot": OneShot(context, runs, tokens, items),
            "agent": ByAgent(session, context.fingerprint, agent, tokens, budget),
        }
        with meter("planted latents") as advance:
            try:
                for mode in modes:
                    await _Circle(ways[mode], latents, context, runs, items, bench, advance).run(in_flight)
            except BaseExceptionGroup as failures:
                first = gravest(failures)
                if not isinstance(first, BudgetSpent):
                    raise first from None
                bench.stopped = str(first)
            finally:
                await llm.aclose()
        bench.calls, bench.usd, bench.seconds = budget.calls, budget.usd, time.monotonic() - started

    asyncio.run(all_modes())
    return bench


def drawn(context: "Context", n: int | None) -> list[int]:
    """`n` planted latents by index (None: all), every kind in turn."""
    from tools.organisms.planted.latents import planted
    from tools.organisms.planted.noun import Kind

    order = context.rng("planted").permutation(len(planted())).tolist()
    kinds = [[index for index in order if planted()[index].kind is kind] for kind in Kind]
    return [index for turn in zip_longest(*kinds) for index in turn if index is not None][:n]


class _Circle:
    """The latents under one mode: each is labelled once, and graded beside the next one's label."""

    def __init__(
        self,
        way: Way,
        latents: Sequence[int],
        context: "Context",
        runs: Runs,
        items: int,
        bench: Bench,
        advance: Advance,
    ) -> None:
        self._way = way
        self._latents = latents
        self._context = context
        self._runs = runs
        self._items = items
        self._bench = bench
        self._advance = advance
        self._saying: dict[int, asyncio.Task[Said]] = {}

    async def run(self, in_flight: int) -> None:
        """Adds a trial of each latent to the bench. Raises the errors of its latents as a group."""
        todo = iter(range(len(self._latents)))
        async with asyncio.TaskGroup() as self._group:
            for _ in range(min(in_flight, len(self._latents))):
                self._group.create_task(self._work(todo))

    async def _work(self, todo: Iterator[int]) -> None:
        for place in todo:
            self._bench.trials.append(await self._trial(place))
            done, total = len(self._bench.trials), self._bench.asked * len(self._bench.modes)
            self._advance(done, total, self._way.mode)

    def _said(self, place: int) -> asyncio.Task[Said]:
        """What is said of a latent, begun once."""
        latent = self._latents[place % len(self._latents)]
        if latent not in self._saying:
            self._saying[latent] = self._group.create_task(self._way.say(latent))
        return self._saying[latent]

    async def _trial(self, place: int) -> Trial:
        from tools.organisms.planted.latents import planted
        from tools.organisms.planted.noun import Kind

        said = await self._said(place)
        truth = planted()[said.latent]
        writes = truth.kind is Kind.WRITES
        label = said.writes if writes else said.reads
        trial = Trial(self._way.mode, said, truth.name, truth.kind.value, truth.meaning, label)
        if label is None:
            return replace(trial, reason=said.failure or "it said nothing")
        asked = {
            "latent": said.latent,
            "text": label,
            "floor_text": await self._floor(place, label, writes),
            "positives": self._items,
            "negatives": self._items,
            "method": self._way.mode,
        }
        run = await self._runs("grade_planted", asked, self._context, Role.JUDGE)
        return replace(trial, grade=dict(output(run)) or None, experiment=run.id, reason=run.error or said.failure)

    async def _floor(self, place: int, label: str, writes: bool) -> str | None:
        """The next label of the circle that differs."""
        for other in range(place + 1, place + len(self._latents)):
            said = await self._said(other)
            text = said.writes if writes else said.reads
            if text is not None and text.casefold() != label.casefold():
                return text
        return None
