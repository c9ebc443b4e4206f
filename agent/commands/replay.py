"""`glossator replay`: any experiment, any reply of an LLM, or a whole thread again."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, put
from agent.screen.show import clean
from agent.settings import load
from store.errors import UserError

if TYPE_CHECKING:
    from agent.inquiry.replay import Replayed
    from agent.session import Session

SHADE = {"equal": "green", "within tolerance": "green", "different": "red"}


def replay(
    id: Annotated[str, typer.Argument(help="Id of an experiment or LLM call, or its first digits; or a thread.")],
    device: o.Device = None,
    workspace: o.Workspace = None,
    model: o.Model = None,
    base: o.Base = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    dtype: o.Dtype = None,
    json: o.Json = False,
) -> None:
    """Run it again and compare: equal, within tolerance, or different and where. A difference ends with exit code 1.

    The subject is rebuilt from what the ledger recorded; LLMs answer from their records, no endpoint is asked.
    """
    settings = load(locals())
    from agent.session import open_session

    with open_session(settings) as session:
        found = asyncio.run(replayed(session, id))
    document = [{"id": each.id, "again": each.again, "what": each.what, "outcome": each.outcome,
                 "differences": each.differences} for each in found]  # fmt: skip
    different = sum(each.differs for each in found)

    emit({"replayed": document, "different": different}, json, lambda console: print_replayed(console, found))
    if different:
        raise typer.Exit(1)


def print_replayed(console: Console, found: "Sequence[Replayed]") -> None:
    """A line for each row that was replayed, its differences below it."""
    for each in found:
        line = Text(f"{each.id[:8]}  ", "dim").append(each.outcome, SHADE[each.outcome])
        put(console, line.append(f"  {clean(each.what)}"))
        for difference in each.differences:
            put(console, Text(f"          {clean(difference)}"))
    console.print(f"{len(found):,} replayed, {sum(each.differs for each in found):,} different.")


async def replayed(session: "Session", id: str) -> "list[Replayed]":
    """What comes of an experiment, a reply, or every step of a thread. UserError when `id` is none of them."""
    from agent.inquiry.dossier import dossiers
    from agent.inquiry.replay import replay_call, replay_experiment, replay_thread, surroundings
    from store.types import Experiment, Investigation, LLMCall

    on_thread = bool(session.ledger.find(Investigation, thread=id))
    fact = None if on_thread else session.ledger.resolve(id)
    if isinstance(fact, LLMCall):
        return [replay_call(fact)]
    if fact is not None and not isinstance(fact, Experiment):
        raise UserError(f"{id} is a row of {fact.table}: give the id of an experiment or an LLM call, or a thread.")
    found = dossiers(session.ledger, id) if on_thread else []
    runs = [fact] if fact else [e for dossier in found for e in dossier.evidence.experiments.values()]
    if runs:
        session = surroundings(session, runs[0])
    llm = session.llm(from_records=True)
    try:
        if isinstance(fact, Experiment):
            return [await replay_experiment(session, fact, llm)]
        return await replay_thread(session, found, llm)
    finally:
        await llm.aclose()
