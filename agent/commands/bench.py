"""`glossator bench`: what labels are worth, measured where the truth is known."""

from typing import Annotated

import typer

from agent.audit.plan import BUDGET
from agent.commands import options as o
from agent.screen.console import emit
from store.errors import UserError

bench_app = typer.Typer(help="Benchmarks with known truth.", no_args_is_help=True)


@bench_app.callback()
def benches() -> None:
    """Benchmarks with known truth."""


@bench_app.command()
def planted(
    n: Annotated[int | None, typer.Option(min=2, help="Planted latents to label, of every kind; all.")] = None,
    mode: Annotated[str, typer.Option(help="oneshot, agent, or both, comma-separated.")] = "oneshot",
    tokens_each: Annotated[
        int, typer.Option(min=1, help="LLM tokens a mode may use for one latent.", rich_help_panel=o.LIMITS)
    ] = 8000,
    items: Annotated[int, typer.Option(min=8, max=200, help="Held-out texts of each side to grade a label on.")] = 10,
    model: o.Model = None,
    device: o.Device = None,
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
    """Label latents whose meaning was planted in the model, and grade each label by what it predicts.

    Half an hour for all with the embedded LLM; interrupted, the same command goes on where it was.
    """
    from agent.bench.planted import CORPUS, MODES, bench_planted
    from agent.bench.report import document, render
    from agent.session import PLANTED, open_session
    from agent.settings import load

    modes = list(dict.fromkeys(name.strip() for name in mode.split(",") if name.strip()))
    if not modes or set(modes) - set(MODES):
        raise UserError(f"There is no mode {mode!r}: name one or more of {', '.join(MODES)}, separated by commas.")
    settings = load(locals() | {"dictionary": PLANTED})
    if "corpus" not in settings.model_fields_set:
        settings = settings.model_copy(update={"corpus": CORPUS})
    with open_session(settings) as session:
        bench = bench_planted(session, n, modes, tokens_each, items)
    emit(document(bench) if json else None, json, lambda c: render(bench, c))


@bench_app.command()
def audit(
    organism: Annotated[
        list[str] | None, typer.Option(help="May be repeated; by default all that are shipped.")
    ] = None,
    way: Annotated[
        str, typer.Option(help="portfolio, behaviour, black-box, white-box, model-diff, agent; comma-separated.")
    ] = "portfolio,behaviour,black-box,white-box,model-diff",
    nulls: Annotated[int, typer.Option(min=0, help="Seeds of the base model, and of scrambled adapters.")] = 2,
    budget: Annotated[
        int, typer.Option(min=3000, help="Tokens of the portfolio in each model, about.", rich_help_panel=o.LIMITS)
    ] = BUDGET,
    model: o.Model = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    max_usd: o.MaxUsd = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Audit organisms and models that hide nothing, blind, by the whole portfolio and by parts of it; graded by code.

    Interrupted, the same command goes on where it was.
    """
    from agent.bench.audit import AGENT, WAYS, bench_audit
    from agent.bench.audit_report import document, render
    from agent.inquiry.limits import limits_of
    from agent.session import Session
    from agent.settings import load

    known = (*WAYS, AGENT)
    ways = list(dict.fromkeys(name.strip() for name in way.split(",") if name.strip()))
    if not ways or set(ways) - set(known):
        raise UserError(f"There is no way {way!r}: name one or more of {', '.join(known)}, separated by commas.")
    settings = load(locals())
    if AGENT in ways and Session(settings).embedded_agent:
        raise UserError(
            "The embedded LLM cannot audit: configure another (GLOSSATOR_LLM_BASE_URL), or leave agent out."
        )
    bench = bench_audit(settings, ways, organism or (), nulls, budget, limits_of(settings))
    emit(document(bench), json, lambda c: render(bench, c))
