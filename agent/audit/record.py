"""The rows of an audit by code: an investigation like any other, so that it is exported, verified and replayed alike.

Whatever is there already is taken from the ledger, so that an audit that was killed goes on where it was.
"""

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from agent.inquiry.auditing import QUESTION
from agent.localise import Runner, Step
from store.types import (
    Claim,
    Comparison,
    Conclusion,
    Experiment,
    Fact,
    Hypothesis,
    Investigation,
    Judgement,
    Prediction,
    ToolUse,
)

if TYPE_CHECKING:
    from agent.session import Session
    from tools.workbench.context import Context

F = TypeVar("F", bound=Fact)


class Record:
    """The investigation of one thread and what is written into it."""

    def __init__(self, context: "Context", investigation: Investigation) -> None:
        self.context, self.investigation = context, investigation
        self._ledger = context.ledger
        self.run = Runner(context)

    @classmethod
    def of(cls, session: "Session", context: "Context", thread: str, limits: dict[str, Any]) -> "Record":
        """The thread's investigation, begun now if it is not there."""
        kept = context.ledger.find(Investigation, thread=thread)
        if kept:
            return cls(context, kept[0])
        settings = session.settings
        row = Investigation(
            thread=thread,
            question=QUESTION,
            subject=context.fingerprint,
            model=settings.model,
            dictionary=settings.dictionary,
            hook=settings.hook,
            dtype=str(context.subject.dtype).removeprefix("torch."),
            seed=context.seed,
            llm="none",
            native=False,
            limits=limits,
        )
        context.ledger.append(row)
        return cls(context, row)

    async def look(self, tool: str, input: dict[str, Any], why: str) -> Step:
        """A run that decides no prediction."""
        return await self._used(await self.run(tool, input), "observe", why)

    async def state(self, claim: str, dull: bool = False) -> Hypothesis:
        row = Hypothesis(about="behaviour", claim=claim, investigation=self.investigation.id, dull=dull)
        return await self._once(row, investigation=self.investigation.id)

    async def predict(
        self, hypothesis: Hypothesis, tool: str, input: dict[str, Any], measure: str, expected: tuple[Comparison, float]
    ) -> Prediction:
        """Registers a prediction of a run that is not made yet."""
        from tools.workbench.registry import get_tool
        from tools.workbench.run import validate

        row = Prediction(
            hypothesis=hypothesis.id,
            tool=tool,
            input=validate(get_tool(tool), input).model_dump(mode="json"),
            measure=measure,
            comparison=expected[0],
            threshold=expected[1],
        )
        return await self._once(row, hypothesis=hypothesis.id)

    async def test(self, predictions: list[Prediction], why: str) -> tuple[Step, list[Judgement]]:
        """Makes the run that all of them are about, after they were registered, and judges them by it."""
        first = predictions[0]
        since = max(prediction.created_at for prediction in predictions)
        step = await self._used(await self.run(first.tool, first.input, since, first.id), "test", why)
        if step.experiment is None or step.experiment.error is not None:
            return step, []
        judged = [
            await self._once(Judgement.of(each, step.experiment), prediction=each.id, experiment=step.experiment.id)
            for each in predictions
        ]
        return step, judged

    async def conclude(self, reason: str, claims: list[Claim]) -> Conclusion:
        row = Conclusion(investigation=self.investigation.id, reason=reason, claims=tuple(claims))
        return await self._once(row, investigation=self.investigation.id)

    async def _used(self, step: Step, stage: str, why: str) -> Step:
        assert isinstance(step.experiment, Experiment), "a runner's step has its row"
        use = ToolUse(investigation=self.investigation.id, step=stage, round=1, experiment=step.experiment.id, why=why)
        await self._once(use, investigation=self.investigation.id, experiment=step.experiment.id)
        return step

    async def _once(self, fact: F, **where: str) -> F:
        """Records `fact` unless a row among those that `where` names says the same."""

        def settle() -> F:
            for kept in self._ledger.find(type(fact), **where):
                if kept.model_copy(update={"created_at": fact.created_at}) == fact:
                    return kept
            self._ledger.append(fact)
            return fact

        return await asyncio.to_thread(settle)
