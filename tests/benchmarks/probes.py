"""What probes find in the default model: python -m tests.benchmarks.probes [ROW ...] [--harvest FOLDER]

Rows: days, months (a circle at every layer; then whether the model reads it), code (one latent), towns (an attribute at
entities never seen), german (a gate), clusters (latents that write into one small space; needs a harvest). Each prints
the tool's verdict and its figures.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from store.activations import Harvest
from store.ledger import Ledger
from tests.tools.test_probing import DAYS, ENGLISH, GERMAN, code_and_prose
from tools.dictionaries.load import load_subject
from tools.workbench.context import Context
from tools.workbench.run import run
from tools.workbench.templates import FRAMES, MONTHS


def measured(context: Context, tool: str, **input: Any) -> dict[str, Any]:
    begun = process_time()
    experiment = asyncio.run(run(tool, input, context))
    assert experiment.output is not None, experiment.error
    print(f"{tool} ({process_time() - begun:.0f} s): {experiment.output.get('verdict')}", flush=True)
    return experiment.output


def circle(context: Context, items: tuple[str, ...], frame: str) -> None:
    found = measured(context, "find_manifold", items=items, layers="all")
    print({row["layer"]: round(row["order"] * len(items)) for row in found["layers"]})
    for layer in (3, 9, 15):
        plane = measured(context, "find_manifold", items=items, layers=[layer])["plane"]
        measured(context, "edit_in_plane", plane=plane, items=items, prompts=[frame])


def code(context: Context) -> None:
    for n in (40, 25):
        own, other = code_and_prose(n)
        for position in ("mean", -1):
            found = measured(context, "sparse_probe", positive=own, negative=other, sizes=[1, 2], position=position)
            print(2 * n, position, [(size["auroc"], size["raw"], size["rotated"]) for size in found["sizes"]])


def towns(context: Context) -> None:
    found = measured(
        context,
        "attribute_probe",
        dataset="17_world_country",
        n=400,
        prompt="{} is a place in the country of",
        layers=[0, 6, 12, 18, 24],
    )
    print([(row["place"], row["layer"], round(row["auroc"], 2)) for row in found["curve"]], found["controls"])


def german(context: Context) -> None:
    (latent,) = measured(
        context, "sparse_probe", positive=GERMAN, negative=ENGLISH, sizes=[1], labels=["German", "English"]
    )["sizes"][0]["units"]
    found = measured(context, "conditional_effect", gate={"latent": latent}, inside=GERMAN, outside=ENGLISH)
    print(found["inside"], found["outside"], found["controls"])


def clusters(context: Context) -> None:
    for row in measured(context, "latent_clusters")["found"]:
        index = row["irreducible"]
        sizes = f"{len(row['latents'])} latents, {row['tokens']:,} tokens"
        print(f"{index['index']:.2f}: S {index['separability']:.2f}, M {index['mixture']:.2f}, {sizes}, {row['words']}")


def main() -> None:
    rows = {
        "days": lambda context: circle(context, DAYS, FRAMES["days"].replace("{NOW}", "{}")),
        "months": lambda context: circle(context, MONTHS, FRAMES["months"].replace("{NOW}", "{}")),
        "code": code,
        "towns": towns,
        "german": german,
        "clusters": clusters,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*rows, []], default=list(rows))
    parser.add_argument("--harvest", type=Path, help="folder of a finished harvest of the default subject")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        harvest = Harvest(asked.harvest) if asked.harvest else None
        context = Context(load_subject(dtype="float32"), Ledger(Path(folder) / "store.duckdb"), harvest)
        for row in asked.rows:
            print(f"-- {row}")
            rows[row](context)


if __name__ == "__main__":
    main()
