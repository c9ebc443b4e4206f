"""`glossator ask`: one question investigated without a terminal."""

import asyncio
import secrets
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, say
from agent.screen.show import clean
from agent.settings import load
from store.errors import UserError

if TYPE_CHECKING:
    from agent.inquiry.events import Concluded, Spent
    from agent.inquiry.limits import Limits
    from agent.localise import Localised
    from agent.session import Session
    from store.types import Claim

LIMITED = 3  # exit code: a limit ended the investigation

Thread = Annotated[str | None, typer.Option(help="Thread to ask on; without a question, the one to go on with.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds of tests at most.", rich_help_panel=o.LIMITS)]
ToolCalls = Annotated[int | None, typer.Option(min=1, help="Experiments at most.", rich_help_panel=o.LIMITS)]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of the LLM at most.", rich_help_panel=o.LIMITS)]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Minutes at most.", rich_help_panel=o.LIMITS)]


def ask(
    question: Annotated[str | None, typer.Argument(help="Such as: what does latent 2041 do?")] = None,
    thread: Thread = None,
    rounds: Rounds = None,
    tool_calls: ToolCalls = None,
    max_tokens: MaxTokens = None,
    minutes: Minutes = None,
    max_usd: o.MaxUsd = None,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Investigate a question: hypotheses, predictions, tests, verdicts, claims that cite their evidence.

    Exit code 0 when it concluded, 3 when a limit ended it. Interrupted, `--thread ID` goes on where it was.
    """
    settings = load(locals())
    if question is None and thread is None:
        raise UserError('Ask a question, such as: glossator ask "what does latent 7 do?".')
    if question is not None and not question.strip():
        raise UserError('The question is empty: ask one, such as: glossator ask "what does latent 7 do?".')
    if thread is not None and not thread.strip():
        raise UserError("The thread's name is empty: give the one that an earlier question was asked on.")
    if thread is not None and clean(thread) != thread:
        raise UserError("The thread's name holds characters that steer a terminal: use letters, digits and dashes.")
    from agent.inquiry.investigable import dtype_for
    from agent.inquiry.limits import limits_of
    from agent.session import open_session

    limits = limits_of(settings, rounds=rounds, tool_calls=tool_calls, tokens=max_tokens, minutes=minutes)
    name = thread or secrets.token_hex(4)
    with open_session(settings) as session:
        session.settings = settings.model_copy(update={"dtype": dtype_for(session, name, question)})
        ended, spent = asyncio.run(_ask(session, question, name, limits))
        tables = None if json else _measured(session, ended.thread)
    document = {
        "thread": ended.thread,
        "reason": ended.reason,
        "claims": [claim.model_dump(mode="json") for claim in ended.claims],
        "spent": spent.model_dump(mode="json") if spent else None,
    }

    def render(console: Console) -> None:
        from agent.commands.localise import render as print_tables
        from agent.inquiry.conclude import SEEN

        if tables:
            print_tables(console, tables)
        told = [claim for claim in ended.claims if not (tables and claim.sentence.startswith(SEEN))]
        print_claims(console, told, ended.reason)

    emit(document, json, render)
    if ended.reason != "concluded":
        raise typer.Exit(LIMITED)


def _measured(session: "Session", thread: str) -> "Localised | None":
    """What a behaviour was localised by where no hypothesis was stated, for its tables; None for any other question."""
    from agent.inquiry.dossier import dossiers
    from agent.localise import FIRST, Localised, Step

    evidence = dossiers(session.ledger, thread)[-1].evidence
    runs = [run for run in evidence.experiments.values() if run.error is None]
    pairs = next((run for run in runs if run.tool == FIRST[0]), None)
    if evidence.hypotheses or pairs is None:
        return None
    behaviour = str(pairs.input.get("template") or "the given pairs")
    return Localised(behaviour, [Step(run.tool, run, earlier=True) for run in runs])


def print_claims(console: Console, claims: "list[Claim]", reason: str) -> None:
    """A conclusion for people: a claim a line, its evidence behind it."""
    for claim in claims:
        cited = " ".join(id[:8] for id in claim.evidence)
        console.print(
            Text(clean(claim.sentence), "italic" if claim.conjecture else ""),
            Text(f"[{'seen ' if claim.seen else ''}{cited}]" if cited else "[conjecture]", "dim"),
            soft_wrap=True,
        )
    if reason != "concluded":
        console.print(Text(f"Not concluded: {reason}.", "yellow"))


async def _ask(
    session: "Session", question: str | None, thread: str, limits: "Limits"
) -> "tuple[Concluded, Spent | None]":
    from agent.conversation.narrate import Narrator
    from agent.inquiry.events import Concluded, Spent
    from agent.inquiry.investigate import investigate

    narrator, spent, told = Narrator(), None, False
    async for event in investigate(session, question, thread, limits):
        if not told:
            say(f"Thread {thread}; interrupted, glossator ask --thread {thread} goes on with it.")
            told = True
        for line in narrator.lines(event):
            say(line)
        if isinstance(event, Spent):
            spent = event
        if isinstance(event, Concluded):
            ended = event
    return ended, spent
