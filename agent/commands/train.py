"""`glossator train`: a dictionary of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import options as o
from agent.screen.console import emit, meter, say
from store.errors import UserError

if TYPE_CHECKING:
    from agent.session import Session


def train(
    folder: Annotated[Path, typer.Argument(help="Folder for the finished dictionary.")],
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of text to train on.")] = None,
    n_latents: Annotated[int | None, typer.Option("--latents", min=1, help="Width of the dictionary.")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Mean active latents a token.")] = None,
    architecture: Annotated[str | None, typer.Option(help="batchtopk or matryoshka.")] = None,
    hook: Annotated[str, typer.Option(help="Hook point to train on.")] = "blocks.15.hook_resid_pre",
    model: o.Model = None,
    adapter: o.Adapter = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    corpus: o.Corpus = None,
    seed: o.Seed = None,
    json: o.Json = False,
) -> None:
    """Train a dictionary with SAELens' trainer; interrupted, the same command goes on from the last block."""
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    plan: dict[str, Any] = {"tokens": tokens, "n_latents": n_latents, "k": k, "architecture": architecture}
    with open_session(settings) as session:
        finished = _trained(session, folder, {name: value for name, value in plan.items() if value is not None})
    emit({"folder": str(finished)}, json, lambda c: c.print(
        f"{finished} holds the dictionary; try glossator dictionary evaluate --dictionary {finished}.", soft_wrap=True,
        markup=False,
    ))  # fmt: skip


def _trained(session: "Session", folder: Path, plan: dict[str, Any]) -> Path:
    """Trains a dictionary of the session's model at its hook point into `folder`; `plan` overrules TrainingPlan."""
    from pydantic import TypeAdapter, ValidationError

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
