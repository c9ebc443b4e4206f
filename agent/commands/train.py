"""`glossator train` and the table of `glossator dictionary evaluate`."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from agent.batch.report import sparkline_of_counts
from agent.screen.console import meter, say
from agent.session import Session
from store.errors import UserError


def train_dictionary(session: Session, folder: Path, plan: dict[str, Any]) -> Path:
    """Trains a dictionary of the session's model at its hook point into `folder`; `plan` overrules TrainingPlan."""
    from tools.dictionaries.train import TrainingPlan, begun_dtype, train

    try:
        checked = TypeAdapter(TrainingPlan).validate_python({**plan, "seed": session.settings.seed})
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"The option --{fault['loc'][0]} is wrong: {fault['msg']}.") from None
    subject, corpus = session.bare_subject(begun_dtype(folder)), session.corpus
    say(f"Training {checked.n_latents:,} latents on {checked.tokens:,} tokens of {corpus.name} at {subject.hook}.")
    with meter("training, tokens") as advance:
        return train(subject, corpus, checked, folder, advance)


def evaluation_table(found: dict[str, Any]) -> Group:
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
