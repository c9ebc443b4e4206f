"""The command line: parse, call one function, print. Heavy imports stay inside the commands."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.bench.cli import bench_app
from agent.commands import options as o
from agent.commands.ask import ask
from agent.commands.chat import chat
from agent.commands.evidence import evidence, hypotheses
from agent.commands.export import export
from agent.commands.mcp import mcp
from agent.commands.replay import replay
from agent.commands.review import review_app
from agent.commands.tool import tool_app
from agent.commands.version import options
from agent.screen.console import emit, quiet_libraries, say
from store.errors import UserError

app = typer.Typer(
    help="Labels the latents of a language model, scores every label, and keeps the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
dictionary_app = typer.Typer(help="Dictionaries: how good is one?", no_args_is_help=True)
app.callback()(options)
app.add_typer(dictionary_app, name="dictionary")
app.add_typer(tool_app, name="tool")
app.add_typer(review_app, name="review")
app.command()(ask)
app.command()(evidence)
app.command()(hypotheses)
app.add_typer(bench_app, name="bench")
app.command()(replay)
app.command()(chat)
app.command()(mcp)
app.command()(export)

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 2 and one sentence on stderr for what a user can put right."""
    quiet_libraries()
    try:
        app(arguments, prog_name="glossator")
    except UserError as error:
        say(_sentence(error))
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as exit:
        return _interrupted() if exit.code == INTERRUPTED else int(exit.code or 0)
    return 0


@app.command()
def label(
    latents: Annotated[str | None, typer.Option(help="Latents by index, such as 0-999 or 3,17,40-44.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="So many latents that fire, drawn by the seed.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one latent a line.")] = None,
    explainers: Annotated[
        str, typer.Option("--explainer", help="Tools that explain, comma-separated.")
    ] = "explain_latent",
    scorers: Annotated[str, typer.Option(help="Tools that score, comma-separated.")] = "score_detection,score_fuzzing",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try latents again that failed before.")] = False,
    model: o.Model = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    tokens: o.Tokens = None,
    concurrency: o.Concurrency = None,
    max_usd: o.MaxUsd = None,
    max_calls: o.MaxCalls = None,
    max_hours: o.MaxHours = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Explain latents and score each explanation; interrupted, the same command goes on where it was."""
    from agent.batch import report
    from agent.label import label_latents
    from agent.session import open_session
    from agent.settings import load
    from store.types import Explanation

    settings = load(locals())
    with open_session(settings) as session:
        batch = label_latents(session, latents, sample, file, _list(explainers), _list(scorers), retry_failed)

    def evidence(id: str) -> Explanation:
        found = session.ledger.get(Explanation, id)
        assert found is not None, "rows never go away"
        return found

    emit(report.document(batch, evidence) if json else None, json, lambda c: report.render(batch, evidence, c))


@app.command()
def harvest(
    tokens: o.Tokens = None,
    corpus: o.Corpus = None,
    model: o.Model = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Run text through the model and keep what fires; interrupted, the same command goes on from the last shard."""
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    with open_session(settings) as session:
        made = session.make_harvest()
        stats = made.stats()
    found = {
        "folder": str(made.folder),
        "tokens": made.n_tokens,
        "windows": made.n_windows,
        "latents": made.n_latents,
        "dead": int((stats.count == 0).sum()),
        "activations": int(stats.count.sum()),
        "header": made.header,
    }
    emit(found, json, lambda c: c.print(
        f"{found['tokens']:,} tokens in {found['windows']:,} windows; {found['activations']:,} activations of "
        f"{found['latents']:,} latents, {found['dead']:,} of which never fired.\n{found['folder']}", soft_wrap=True,
        markup=False,
    ))  # fmt: skip


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Folder for the finished dictionary.")],
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of text to train on.")] = None,
    n_latents: Annotated[int | None, typer.Option("--latents", min=1, help="Width of the dictionary.")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Mean active latents a token.")] = None,
    architecture: Annotated[str | None, typer.Option(help="batchtopk or matryoshka.")] = None,
    hook: Annotated[str, typer.Option(help="Hook point to train on.")] = "blocks.15.hook_resid_pre",
    model: o.Model = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    seed: o.Seed = None,
    json: o.Json = False,
) -> None:
    """Train a dictionary with SAELens' trainer; interrupted, the same command goes on from the last block."""
    from agent.commands.train import train_dictionary
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    plan: dict[str, Any] = {"tokens": tokens, "n_latents": n_latents, "k": k, "architecture": architecture}
    with open_session(settings) as session:
        finished = train_dictionary(session, folder, {name: value for name, value in plan.items() if value is not None})
    emit({"folder": str(finished)}, json, lambda c: c.print(
        f"{finished} holds the dictionary; try glossator dictionary evaluate --dictionary {finished}.", soft_wrap=True,
        markup=False,
    ))  # fmt: skip


@dictionary_app.command("evaluate")
def evaluate(
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of held-out text.")] = 200_000,
    model: o.Model = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Explained variance, L0, dead share and loss recovered, each beside a random dictionary and PCA."""
    from agent.commands.train import evaluation_table
    from agent.screen.console import meter
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    with open_session(settings) as session:
        from tools.dictionaries.evaluate import evaluate as measure

        subject, text = session.subject, session.corpus
        with meter("evaluating, tokens") as advance:
            found = measure(subject, text, tokens, advance).model_dump(mode="json")
    emit(found, json, lambda c: c.print(evaluation_table(found)))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="Any query; the store is opened read-only.")],
    format: Annotated[str, typer.Option(help="table, json or csv.")] = "table",
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Query the store: tables hold the facts, views the review questions."""
    from agent.screen.tables import FORMATS, print_rows
    from agent.session import open_session
    from agent.settings import load

    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}: name one of {', '.join(FORMATS)}.")
    with open_session(load(locals())) as session:
        session.need_workspace()
        columns, rows = session.ledger.sql(query)
    print_rows(columns, rows, "json" if json else format)


@app.command()
def verify(workspace: o.Workspace = None, json: o.Json = False) -> None:
    """Check the store and the harvests: every hash, every reference."""
    from agent.screen.tables import print_problems
    from agent.session import open_session
    from agent.settings import load
    from store.verify import verify as check

    with open_session(load(locals())) as session:
        session.need_workspace()
        problems = check(session.ledger) + [p for harvest in session.harvests() for p in harvest.verify()]
    print_problems(problems, json)
    if problems:
        raise typer.Exit(1)


@app.command()
def llm(json: o.Json = False) -> None:
    """Serve the embedded LLM in the foreground and print its base URL."""
    from agent.session import use_cache
    from agent.settings import load
    from prompts.local import serve_in_foreground

    use_cache(load())

    def announce(base_url: str) -> None:
        emit({"base_url": base_url}, json, lambda c: c.print(base_url, soft_wrap=True, markup=False))
        say("Serving; Ctrl-C ends it.")

    serve_in_foreground(announce)


@app.command()
def config(
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Every setting, its value and where it came from; keys are masked."""
    from agent.screen.tables import settings_table
    from agent.settings import load, origins

    flags = locals()
    found = origins(load(flags), flags)
    document = {origin.name: {"value": origin.value, "source": origin.source} for origin in found}
    emit(document, json, lambda c: c.print(settings_table(found)))


def _list(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _sentence(error: UserError) -> str:
    text = " ".join(str(error).split())
    if text.partition(" ")[0].isalpha():  # not a file's name
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _interrupted() -> int:
    say("Interrupted; what was finished is kept, and the same command goes on from there.")
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
