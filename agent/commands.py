"""The commands of the conversation: /help, /evidence and the others."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.brief import brief
from agent.completion import Known
from agent.events import ToolBegan, ToolEnded
from agent.history import ending, resolve, threads, uses
from agent.plot import number
from agent.show import plain
from agent.transcript import ID, VERDICTS, Call, call_panel
from store.errors import UserError
from store.types import Experiment, Fact, Hypothesis, Investigation, ToolUse

if TYPE_CHECKING:
    from agent.chat import Chat


class Command(NamedTuple):
    """`run` takes the conversation and what was typed after the name; `takes` says what that is."""

    run: Callable[["Chat", str], Awaitable[None]]
    takes: str
    help: str


async def show_help(chat: "Chat", _: str) -> None:
    table = _table()
    for name, command in COMMANDS.items():
        table.add_row(Text.assemble((name, "bold"), (f" {command.takes}", "cyan")), command.help)
    keys = "Ctrl-C stops, twice leaves; Ctrl-O opens the last tool call; Tab completes; Alt-Enter breaks the line"
    await chat.print(table, Text(keys, "dim"))


async def show_threads(chat: "Chat", id: str) -> None:
    if id:
        chat.take_up(resolve(chat.session.ledger, id))
        await chat.print(Text(f"This is thread {chat.thread}.", "dim"))
        return
    table = _table("thread", "last asked")
    for thread, investigation in threads(chat.session.ledger).items():
        here = "bold" if thread == chat.thread else ""
        ended = ending(chat.session.ledger, investigation)
        state = f"  {ended.reason.replace('_', ' ')}" if ended else "  unfinished"
        table.add_row(Text(thread, here), plain(investigation.question).append(state, "dim"))
    await chat.print(table if table.row_count else Text("There are no threads yet: ask something.", "dim"))


async def show_evidence(chat: "Chat", id: str) -> None:
    if id:
        fact = chat.session.ledger.resolve(id)
        experiment = isinstance(fact, Experiment)
        await chat.print(call_panel(_call(chat, fact), chat.console) if experiment else _row(fact))
        return
    table = _table("id", "tool", "found")
    for use in uses(chat.session.ledger, chat.thread):
        experiment = chat.session.ledger.get(Experiment, use.experiment)
        if experiment is not None:
            table.add_row(Text(experiment.id[:ID], "cyan"), experiment.tool, plain(brief(experiment).verdict))
    await chat.print(table if table.row_count else Text("This thread has no evidence yet.", "dim"))


async def show_hypotheses(chat: "Chat", _: str) -> None:
    ledger, lines = chat.session.ledger, []
    for asked in ledger.find(Investigation, thread=chat.thread):
        lines.append(Text.assemble("\n", (plain(asked.question).plain, "bold")))
        names: dict[str, str] = {}
        outcomes = ledger.view("prediction_vs_outcome", thread=chat.thread)
        for at, hypothesis in enumerate(ledger.find(Hypothesis, investigation=asked.id), 1):
            names[hypothesis.id] = f"H{at}"
            of = f"  refines {names[hypothesis.refines]}" if hypothesis.refines in names else ""
            kind = ("  dull account" if hypothesis.dull else "") + of
            lines.append(Text.assemble((f"H{at} ", "bold magenta"), plain(hypothesis.claim), (kind, "dim")))
            lines += [_outcome(row) for row in outcomes if row["hypothesis_id"] == hypothesis.id]
    await chat.print(*(lines or [Text("This thread has no hypotheses yet.", "dim")]))


async def show_cost(chat: "Chat", _: str) -> None:
    status = chat.transcript.status()
    table = _table("day", "model", "calls", "tokens", "USD")
    for row in chat.session.ledger.view("costs"):
        usd = "unknown" if row["usd"] is None else f"{row['usd']:.4f}"
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        table.add_row(str(row["day"]), plain(f"{row['role']}: {row['model']}"), f"{row['calls']:,}", f"{tokens:,}", usd)
    await chat.print(*([status] if status else []), table)


async def show_tools(chat: "Chat", _: str) -> None:
    from tools.workbench.registry import tools

    table = _table("tool", "what it does")
    for tool in sorted(tools().values(), key=lambda tool: (tool.family, tool.name)):
        table.add_row(Text.assemble(tool.name, (f"\n{tool.family}", "dim")), plain(tool.doc.partition("\n")[0]))
    await chat.print(table)


async def show_model(chat: "Chat", name: str) -> None:
    settings = chat.session.settings
    if name:
        if settings.endpoint("agent").base_url is None:
            raise UserError("The embedded LLM has one model: set GLOSSATOR_LLM_BASE_URL to use another.")
        agent = settings.agent.model_copy(update={"model": name})
        chat.session.settings = settings = settings.model_copy(update={"agent": agent})
    llm = settings.endpoint("agent")
    asked = f"{llm.model} at {llm.base_url}" if llm.base_url else "the embedded LLM"
    await chat.print(
        Text.assemble(("subject  ", "dim"), plain(f"{settings.model} with {settings.dictionary}")),
        Text.assemble(("agent    ", "dim"), plain(asked)),
    )


async def approve(chat: "Chat", answer: str) -> None:
    if chat.transcript.waiting is None:
        raise UserError("Nothing waits for an approval.")
    if answer not in ("", "yes", "no"):
        raise UserError("Write /approve to let it run, or /approve no to go on without it.")
    await chat.ask(None, answer != "no")


async def leave(chat: "Chat", _: str) -> None:
    chat.leaving = True


COMMANDS: dict[str, Command] = {
    "/help": Command(show_help, "", "what can be typed here"),
    "/threads": Command(show_threads, "[ID]", "the conversations so far; take one up again"),
    "/hypotheses": Command(show_hypotheses, "", "what this thread supposes, foretold and found"),
    "/evidence": Command(show_evidence, "[ID]", "what this thread measured; any row opened"),
    "/cost": Command(show_cost, "", "what was spent"),
    "/tools": Command(show_tools, "", "what can be measured"),
    "/model": Command(show_model, "[NAME]", "subject and LLM; another model of the same endpoint"),
    "/approve": Command(approve, "[no]", "let the tool that waits run, or not"),
    "/quit": Command(leave, "", "leave; everything is kept"),
}


def ids(chat: "Chat", command: str) -> Sequence[Known]:
    """What may follow a command."""
    match command:
        case "/threads":
            return [Known(thread, asked.question) for thread, asked in threads(chat.session.ledger).items()]
        case "/evidence" | "/replay":
            return [Known(use.experiment[: 2 * ID], use.why) for use in uses(chat.session.ledger, chat.thread)]
        case "/approve":
            return [Known("yes", "run it"), Known("no", "go on without it")]
    return []


def known_latents(chat: "Chat") -> Sequence[Known]:
    """Every latent that the ledger knows of, with its latest explanation if it has one."""
    query = (
        "SELECT latent, arg_max(text, created_at) FROM (SELECT latent, text, created_at FROM explanations UNION ALL "
        "SELECT latent, NULL, created_at FROM experiments WHERE latent IS NOT NULL) GROUP BY latent ORDER BY latent"
    )
    return [Known(latent, text or "") for latent, text in chat.session.ledger.sql(query)[1]]


def _table(*headings: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if headings else None, show_edge=False, pad_edge=False, show_header=bool(headings)
    )
    for heading in headings or ("", ""):
        table.add_column(heading, overflow="fold")
    return table


def _outcome(row: dict[str, Any]) -> Text:
    """A prediction and what came of it."""
    value = "not tested" if row["experiment"] is None else "no such number" if row["value"] is None else row["value"]
    measured = f"measured {number(value)}" if isinstance(value, float) else value
    said = f"  {row['tool']} {row['measure']} {row['comparison']} {number(row['threshold'])}: {measured}"
    evidence = f"  {row['experiment'][:ID]}" if row["experiment"] else ""
    return Text.assemble("  ", VERDICTS[row["held"]], plain(said).plain, (evidence, "dim"))


def _row(fact: Fact) -> Panel:
    """Any row of the ledger, a field a line."""
    table = _table()
    for name, value in fact.model_dump(mode="json").items():
        if value not in (None, "", [], {}):
            table.add_row(Text(name, "dim"), plain(value if isinstance(value, str) else json.dumps(value)))
    return Panel(
        table, title=fact.table, title_align="left", subtitle=Text(fact.id[:ID], "dim"), subtitle_align="right"
    )


def _call(chat: "Chat", experiment: Experiment) -> Call:
    """An experiment of the ledger as the call it was."""
    found = chat.session.ledger.find(ToolUse, experiment=experiment.id)
    return Call(
        ToolBegan(tool=experiment.tool, why=found[-1].why if found else "", input=experiment.input),
        ToolEnded(
            tool=experiment.tool,
            experiment=experiment.id,
            ok=experiment.error is None,
            verdict=brief(experiment).verdict,
            seconds=experiment.seconds,
            output=experiment.output,
        ),
    )
