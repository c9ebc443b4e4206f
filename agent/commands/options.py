"""Options that several commands share. A flag that names a setting overrules its variable and glossator.toml."""

from pathlib import Path
from typing import Annotated

import typer

STORE, SUBJECT, LLM, LIMITS = "Where", "Subject", "LLM", "Limits of this run"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]
Workspace = Annotated[
    Path | None,
    typer.Option(help="Folder of store and activations, by default ./glossator-workspace.", rich_help_panel=STORE),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "--subject", help="Embedded name, hub name or folder.", rich_help_panel=SUBJECT),
]
Adapter = Annotated[
    str | None,
    typer.Option(help="LoRA to put into the model: an organism's name, or a folder.", rich_help_panel=SUBJECT),
]
Base = Annotated[
    str | None,
    typer.Option(help="Model to compare with; by default what lies below the adapter.", rich_help_panel=SUBJECT),
]
Dictionary = Annotated[
    str | None,
    typer.Option(help="Embedded name, folder, or SAELens release:id.", rich_help_panel=SUBJECT),
]
Hook = Annotated[
    str | None,
    typer.Option(help="Such as blocks.15.hook_resid_pre; the dictionary's own.", rich_help_panel=SUBJECT),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; CUDA if there is one.", rich_help_panel=SUBJECT)]
Dtype = Annotated[str | None, typer.Option(help="float32 or bfloat16; the faster one.", rich_help_panel=SUBJECT)]
Corpus = Annotated[str | None, typer.Option(help="Named corpus, or a file or folder of text.", rich_help_panel=SUBJECT)]
Tokens = Annotated[int | None, typer.Option(help="Size of a harvest, tokens.", rich_help_panel=SUBJECT)]
Seed = Annotated[int | None, typer.Option(help="Seed of every random choice.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests to LLMs in flight.", rich_help_panel=LLM)]
MaxUsd = Annotated[float | None, typer.Option(help="US dollars to spend at most.", rich_help_panel=LIMITS)]
MaxCalls = Annotated[int | None, typer.Option(help="Requests to LLMs at most.", rich_help_panel=LIMITS)]
MaxHours = Annotated[float | None, typer.Option(help="Hours to run at most.", rich_help_panel=LIMITS)]
