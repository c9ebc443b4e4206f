"""The commands of the conversation: /help, /evidence and the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from agent.commands.evidence import print_fact, print_hypotheses
from agent.commands.export import save
from agent.commands.replay import print_replayed, replayed
from agent.conversation.completion import Known
from agent.inquiry.dossier import Dossier, dossiers
from agent.inquiry.history import ending, resolve, threads
from agent.screen.panels import ID, call_of, call_summary
from agent.screen.show import clean, plain
from store.disk import expanded
from store.errors import UserError
from store.ledger import Ledger
from store.types import Experiment, Investigation, ToolUse

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
        await chat.print(chat.greeting())
        return
    table = _table("thread", "last asked")
    for thread, investigation in threads(chat.session.ledger).items():
        ended = ending(chat.session.ledger, investigation)
        state = f"  {ended.reason}" if ended else "  unfinished"
        name = Text(clean(thread), "bold" if thread == chat.thread else "")
        table.add_row(name, plain(investigation.question).append(state, "dim"))
    await chat.print(table if table.row_count else Text("There are no threads yet: ask something.", "dim"))


async def show_hypotheses(chat: "Chat", _: str) -> None:
    found = _asked(chat)
    if not found:
        raise UserError("This thread has no hypotheses yet: ask something.")
    await chat.draw(lambda console: print_hypotheses(console, found))


async def show_evidence(chat: "Chat", id: str) -> None:
    ledger = chat.session.ledger
    if not id:
        calls = [call_of(e, _why(ledger, e)) for d in _asked(chat) for e in d.evidence.experiments.values()]
        await chat.print(*(map(call_summary, calls) if calls else [Text("This thread has no evidence yet.", "dim")]))
        return
    fact, every = ledger.resolve(id), dossiers(ledger)
    await chat.draw(lambda console: print_fact(console, fact, every))


async def replay(chat: "Chat", id: str) -> None:
    if not id:
        raise UserError("Name what to replay: the id of an experiment or of an LLM call, or a thread.")

    async def job() -> None:
        found = await replayed(chat.session, id)
        await chat.draw(lambda console: print_replayed(console, found))

    chat.need_idle()
    chat.work(job())


async def show_cost(chat: "Chat", _: str) -> None:
    table = _table("day", "model", "tokens", "USD")
    for row in chat.session.ledger.view("costs"):
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        model = plain(f"{row['role']}: {row['model']}, {row['calls']:,} calls")
        table.add_row(str(row["day"]), model, f"{tokens:,}", _usd(row["usd"]))
    calls = [call for dossier in _asked(chat) for call in dossier.calls]
    if calls:
        tokens = sum(call.prompt_tokens + call.completion_tokens for call in calls)
        prices = [call.usd for call in calls]
        usd = None if None in prices else sum(price for price in prices if price is not None)
        table.add_row("", f"this thread, {len(calls):,} calls", f"{tokens:,}", _usd(usd), style="bold")
    await chat.print(table)


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:.4f}"


async def show_tools(chat: "Chat", _: str) -> None:
    from tools.workbench.registry import tools

    table = _table("tool", "what it does")
    for tool in sorted(tools().values(), key=lambda tool: (tool.family, tool.name)):
        table.add_row(Text.assemble(tool.name, (f"\n{tool.family}", "dim")), plain(tool.doc.partition("\n")[0]))
    await chat.print(table)


async def export(chat: "Chat", file: str) -> None:
    from agent.reports.export import FORMATS, report

    out = expanded(file)
    if out.suffix[1:] not in FORMATS:
        raise UserError(f"Name a file that ends in {' or '.join(f'.{name}' for name in FORMATS)}: /export report.md")
    save(report(dossiers(chat.session.ledger, chat.thread), out.suffix[1:]), out)
    await chat.print(Text(f"{out} holds the report.", "dim"))


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
    "/replay": Command(replay, "ID", "an experiment, a reply or a thread again, and compared"),
    "/cost": Command(show_cost, "", "what was spent"),
    "/tools": Command(show_tools, "", "what can be measured"),
    "/export": Command(export, "FILE.md", "this thread as a report, Markdown or HTML"),
    "/model": Command(show_model, "[NAME]", "subject and LLM; another model of the same endpoint"),
    "/approve": Command(approve, "[no]", "let the tool that waits run, or not"),
    "/quit": Command(leave, "", "leave; everything is kept"),
}


def ids(chat: "Chat", command: str) -> Sequence[Known]:
    """What may follow a command."""
    ledger = chat.session.ledger
    match command:
        case "/threads":
            return [Known(thread, asked.question) for thread, asked in threads(ledger).items()]
        case "/evidence" | "/replay":
            asked = ledger.find(Investigation, thread=chat.thread)
            uses = [use for each in asked for use in ledger.find(ToolUse, investigation=each.id)]
            return [Known(use.experiment[: 2 * ID], use.why) for use in uses]
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
    style = box.SIMPLE_HEAD if headings else None
    table = Table(box=style, show_edge=False, pad_edge=False, show_header=bool(headings))
    for heading in headings or ("", ""):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("day", "tokens", "USD", "thread"))
    return table


def _asked(chat: "Chat") -> list[Dossier]:
    """What is on record of the thread; nothing before its first question."""
    return dossiers(chat.session.ledger, chat.thread) if chat.thread in threads(chat.session.ledger) else []


def _why(ledger: Ledger, experiment: Experiment) -> str:
    found = ledger.find(ToolUse, experiment=experiment.id)
    return found[-1].why if found else ""
