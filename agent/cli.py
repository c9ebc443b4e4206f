"""The command line, put together; heavy imports stay inside the commands."""

import atexit
import os
import sys

import typer
from typer.exceptions import TyperException

from agent.commands.ask import ask
from agent.commands.audit import audit
from agent.commands.bench import bench_app
from agent.commands.chat import chat
from agent.commands.config import config
from agent.commands.dictionary import dictionary_app
from agent.commands.evidence import evidence, hypotheses
from agent.commands.export import export
from agent.commands.harvest import harvest
from agent.commands.label import label
from agent.commands.llm import llm
from agent.commands.localise import localise
from agent.commands.mcp import mcp
from agent.commands.organism import organism_app
from agent.commands.probe import probe
from agent.commands.replay import replay
from agent.commands.review import review_app
from agent.commands.sql import sql
from agent.commands.tool import tool_app
from agent.commands.train import train
from agent.commands.verify import verify
from agent.commands.version import options
from agent.screen.console import quiet_libraries, say
from store.errors import UserError

app = typer.Typer(
    help="Explains a language model from the inside: labels latents, tests hypotheses, keeps the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(options)
COMMANDS = (
    label,
    chat,
    ask,
    localise,
    probe,
    audit,
    hypotheses,
    evidence,
    replay,
    export,
    harvest,
    train,
    sql,
    verify,
    mcp,
    llm,
    config,
)
for command in COMMANDS:
    app.command()(command)
GROUPS = {
    "review": review_app,
    "tool": tool_app,
    "dictionary": dictionary_app,
    "organism": organism_app,
    "bench": bench_app,
}
for name, group in GROUPS.items():
    app.add_typer(group, name=name)

WRONG = 2  # what a user can put right
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 2 and one sentence on stderr for what a user can put right."""
    quiet_libraries()
    try:
        code = app(arguments, prog_name="glossator", standalone_mode=False)
    except UserError as error:
        say(_sentence(str(error)))
        return WRONG
    except TyperException as error:
        if fault := error.format_message().rstrip("."):  # there is none where the help was printed instead
            say(_sentence(f"{fault}; {_command(error)} --help lists what it takes"))
        return WRONG
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as exit:
        code = exit.code
    return _interrupted() if code == INTERRUPTED else int(code or 0)


def _command(error: TyperException) -> str:
    """The command that was used wrongly, as it is typed."""
    context = getattr(error, "ctx", None)
    return context.command_path if context else "glossator"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    if text.partition(" ")[0].isalpha():  # not a file's name
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _interrupted() -> int:
    say("Interrupted; what was finished is kept, and the same command goes on from there.")
    return INTERRUPTED


def process() -> None:
    """`glossator` as a process. DuckDB's binding lists objects of its own on stderr when the interpreter has ended;
    nobody can act on that, so that it goes nowhere: by then every handler has run and every traceback is written."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    sys.exit(main())


if __name__ == "__main__":
    process()
