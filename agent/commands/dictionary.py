"""`glossator dictionary evaluate`: how good is a dictionary?"""

from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from agent.batch.report import sparkline_of_counts
from agent.commands import options as o
from agent.screen.console import emit, meter

dictionary_app = typer.Typer(help="Dictionaries: how good is one?", no_args_is_help=True)


@dictionary_app.command("evaluate")
def evaluate(
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of held-out text.")] = 200_000,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Explained variance, L0, dead share and loss recovered, each beside a random dictionary and PCA."""
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    with open_session(settings) as session:
        from tools.dictionaries.evaluate import evaluate as measure

        subject, text = session.subject, session.corpus
        with meter("evaluating, tokens") as advance:
            found = measure(subject, text, tokens, advance).model_dump(mode="json")
    emit(found, json, lambda c: c.print(_table(found)))


def _table(found: dict[str, Any]) -> Group:
    """The figures of an `Evaluation`, the dictionary's beside PCA's and a random dictionary's."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for heading in ("dictionary", f"PCA-{found['k']:.0f}", "random"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("explained variance", *(f"{found[name]:.3f}" for name in ("ev", "ev_pca", "ev_random")))
    for ablation in ("zero", "mean"):
        recovered = (found[f"loss_recovered{of}"][f"against_{ablation}"] for of in ("", "_pca", "_random"))
        table.add_row(f"loss recovered, {ablation} ablation", *(f"{share:.3f}" for share in recovered))
    table.add_row("L0 (stated or measured k)", f"{found['l0']:.1f} ({found['k']:.1f})")
    table.add_row("dead latents", f"{found['dead_share']:.1%}")
    edges = found["density_edges"]
    table.add_row(f"density, {edges[0]:.0e} to {edges[-1]:.0e}", sparkline_of_counts(found["density_histogram"]))
    what = f"{found['dictionary']} on {found['subject']} at {found['hook']}"
    return Group(Text(f"{what}, {found['tokens']:,} tokens of {found['corpus']}", "bold"), table)
