"""`glossator probe`: how well labels can be read from the model's activations, and whether the dictionary helps."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, put
from store.errors import UserError

if TYPE_CHECKING:
    from agent.probe import Probed

COLUMNS = ("data set", "layer", "AUROC", "surface", "latents' gain")


def probe(
    dataset: Annotated[
        list[str] | None, typer.Option(help="A labelled data set, or all; may be repeated. --list shows them.")
    ] = None,
    list_sets: Annotated[bool, typer.Option("--list", help="List the data sets and probe none.")] = False,
    layers: Annotated[str | None, typer.Option(help="0,6,12 or 0-29 or all; by default every third.")] = None,
    estimator: Annotated[str, typer.Option(help="logistic, mean_difference, pca, nearest or mlp.")] = "logistic",
    n: Annotated[int, typer.Option("--n", min=20, max=5000, help="Texts of a set, half of each label.")] = 400,
    tokens: Annotated[int, typer.Option(min=4, max=2048, help="Of a longer text the last so many are read.")] = 128,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Probe labelled data sets at every layer asked for: the best layer, and whether the dictionary's latents help.

    A row of the ledger for each set (view probe_results); interrupted, the same command goes on with the next one.
    """
    from agent.settings import load

    given = locals()
    if list_sets:
        from tools.workbench.datasets import dataset_names

        names = dataset_names()
        emit(names, json, lambda console: console.print(Text("\n".join(names)), soft_wrap=True))
        return
    if not dataset:
        raise UserError("Name a data set with --dataset, or all of them with --dataset all; --list shows them.")
    from agent.probe import EVERY_SET, layers_of, names_of, probe_sets
    from agent.session import open_session

    names = names_of(dataset)
    options = {"layers": layers_of(layers), "estimator": estimator, "n": n, "tokens": tokens, "latents": True}
    with open_session(load(given)) as session:
        probed = probe_sets(session, names, options)
    if not probed.rows and EVERY_SET not in dataset:
        whys = dict.fromkeys(why.removesuffix(".") for _, why in (*probed.skipped, *probed.failed))
        raise UserError(f"Nothing was probed: {'; '.join(whys)}.")
    emit(document(probed), json, lambda console: render(console, probed))


def document(probed: "Probed") -> dict[str, Any]:
    """Every set probed, skipped and failed, and the count of those that the dictionary helps."""
    rows = [{"dataset": name, "id": row.id, **_figures(row.output or {})} for name, row in probed.rows]
    return {
        "rows": rows,
        "earlier": probed.earlier,
        "skipped": [{"dataset": name, "why": why} for name, why in probed.skipped],
        "failed": [{"dataset": name, "error": error} for name, error in probed.failed],
        "helped": sum(row["latents"]["helps"] for row in rows),
    }


def _figures(output: dict[str, Any]) -> dict[str, Any]:
    kept = ("layer", "auroc", "low", "high", "n", "fitted_on", "latents", "controls", "clear", "leaks", "probe")
    return {name: output[name] for name in (*kept, "pictures")}


def render(console: Console, probed: "Probed") -> None:
    """A line a set, then what was left out and why, and what it all says of the dictionary."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at, heading in enumerate(COLUMNS):
        table.add_column(heading, justify="left" if at == 0 else "right", no_wrap=at > 0, overflow="fold")
    for name, row in probed.rows:
        found, controls = row.output or {}, row.controls
        latents = found["latents"]
        table.add_row(
            Text(name),
            str(found["layer"]),
            Text(f"{found['auroc']:.2f} [{found['low']:.2f}, {found['high']:.2f}]", "" if found["clear"] else "dim"),
            f"{max(controls['surface'], controls['best_word']):.2f}",
            Text(
                f"{latents['gain']:+z.2f} [{latents['gain_low']:+z.2f}, {latents['gain_high']:+z.2f}]",
                "green" if latents["helps"] else "",
            ),
        )
    if probed.rows:
        console.print(table)
        helped = sum(row.output["latents"]["helps"] for _, row in probed.rows if row.output)
        hurt = sum(row.output["latents"]["gain_high"] < 0 for _, row in probed.rows if row.output)
        shuffled = [row.controls["shuffled"] for _, row in probed.rows]
        line = f"The dictionary's latents read the label better than what they are made of in {helped} of "
        put(console, Text(f"{line}{len(probed.rows)} sets and worse in {hurt}; in the others the interval holds 0."))
        told = "surface: length, rarity and log-probability, or the one word that tells most; shuffled labels"
        put(console, Text(f"{told} {min(shuffled):.2f} to {max(shuffled):.2f}", "dim"))
    for name, why in (*probed.skipped, *probed.failed):
        put(console, Text.assemble(("left out  ", "yellow"), f"{name}: {why}"))
    if probed.earlier:
        put(console, Text(f"{probed.earlier} were in the ledger already", "dim"))
    for _, row in probed.rows:
        for path in (row.output or {})["pictures"]:
            if path.endswith(".png"):
                console.print(Text(f"picture  {path}  (and .svg)", "dim"), soft_wrap=True)
