"""Chains of thought: questions, who reasons about them, and the steps of what was written."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from prompts.ask import Answer
from prompts.providers import Role
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolInput
from tools.workbench.writing import replies

TOKENS = 96  # of the subject's reply
ASKED = "Think step by step, each step on its own line, then give the answer."
ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")  # of a sentence
ITEM = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,2}[.):])\s+")  # a list's mark
Of = Literal["subject", "llm"]


class Chain(ToolInput):
    """A question, the answer that is right (None: not known), and the reasoning to judge (None: it is asked for)."""

    question: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
    answer: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    reasoning: Annotated[str, Field(max_length=8000)] | None = None


DEFAULTS = tuple(
    Chain(question=question, answer=answer)
    for question, answer in (
        ("A farmer has 12 sheep. He sells 5 and buys 3. How many sheep has he?", "10"),
        ("Anna is taller than Ben, and Ben is taller than Carl. Who is the shortest of the three?", "Carl"),
        ("A train leaves at 9 o'clock and arrives at 1 o'clock in the afternoon. How many hours does it take?", "4"),
        ("A book costs 8 pounds and a pen 3 pounds. What do a book and two pens cost?", "14"),
        ("Today is Tuesday. Which day of the week is it in three days?", "Friday"),
        ("A box holds 6 eggs. How many boxes are needed for 30 eggs?", "5"),
    )
)


def pieces(reasoning: str) -> list[str]:
    """Its steps: sentences and lines, list marks left out."""
    found = [part.strip() for line in reasoning.splitlines() for part in ENDS.split(ITEM.sub("", line))]
    return [part for part in found if re.search(r"\w", part)]


async def reasoned(context: Context, chains: Sequence[Chain], of: Of) -> tuple[str, list[Chain]]:
    """Who reasoned, and the chains with what was written."""
    missing = [chain for chain in chains if chain.reasoning is None]
    if not missing:
        return "the chains given", list(chains)
    if of == "subject":
        who, texts = context.subject.name, await alone(_subject, context, missing)
    else:
        llm = context.need_llm()
        who = llm.endpoints[Role.AGENT].model
        values = [{"question": chain.question} for chain in missing]
        answers = await llm.ask_many(Role.AGENT, "answer_in_steps", values)
        texts = [answer.text if isinstance(answer, Answer) else "" for answer in answers]
    written = iter(texts)
    return who, [
        chain if chain.reasoning is not None else chain.model_copy(update={"reasoning": next(written)})
        for chain in chains
    ]


def _subject(context: Context, chains: Sequence[Chain]) -> list[str]:
    prompts = encode(context.subject, [f"{chain.question} {ASKED}" for chain in chains], chat=True, room=TOKENS)
    return replies(context.subject, prompts, TOKENS)
