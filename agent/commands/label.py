"""`glossator label`: the overnight batch."""

from pathlib import Path
from typing import Annotated

import typer

from agent.commands import options as o
from agent.screen.console import emit


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
    adapter: o.Adapter = None,
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


def _list(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
