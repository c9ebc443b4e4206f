"""Which latents a batch labels, and which tools label them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prompts.providers import Role
from store.errors import UserError
from store.types import LatentId

if TYPE_CHECKING:
    from tools.workbench.subject import Subject

RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
LARGEST_INDEX = 10**7


def latents_named(latents: str | None, file: Path | None, sample: int | None) -> Sequence[int | LatentId] | None:
    """The latents named by `--latents` or `--file`, in order; None when they are to be drawn (`--sample`)."""
    if sum(option is not None for option in (latents, file, sample)) != 1:
        raise UserError("Say which latents: one of --latents 0-999, --sample 8 or --file FILE.")
    if latents is not None:
        return _ranges(latents)
    return _lines(file) if file is not None else None


def _ranges(text: str) -> list[int]:
    chosen: dict[int, None] = {}
    for part in text.replace(" ", "").split(","):
        match = RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= LARGEST_INDEX:
            raise UserError(f"{part[:60]!r} names no latents: write indices and ranges such as 0-999 or 3,17,40-44.")
        chosen.update(dict.fromkeys(range(first, last + 1)))
    return list(chosen)


def _lines(file: Path) -> list[int | LatentId]:
    """One latent a line, by index or full name; blank lines and lines starting with # are passed over."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"Could not read {file} ({reason}): give a text file with one latent a line.") from None
    chosen: list[int | LatentId] = []
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if word and not word.startswith("#"):
            try:
                chosen.append(int(word) if RANGE.fullmatch(word) and "-" not in word else LatentId.parse(word))
            except ValueError:
                raise UserError(f"{file}, line {number}: {word[:60]!r} is no latent; write its index.") from None
    if not chosen:
        raise UserError(f"{file} names no latent: write one index a line.")
    return chosen


def indices(subject: "Subject", named: Sequence[int | LatentId]) -> list[int]:
    """The different latents of `named` by index; UserError for one that the subject's dictionary does not have."""
    here = (subject.name, subject.dictionary.name)
    chosen: dict[int, None] = {}
    for latent in named:
        if isinstance(latent, LatentId) and (latent.model, latent.dictionary) != here:
            raise UserError(f"{latent} is not a latent of {'/'.join(here)}: give its own --model and --dictionary.")
        index = latent.index if isinstance(latent, LatentId) else latent
        subject.check_latent(index)
        chosen[index] = None
    return list(chosen)


def drawn(counts: npt.NDArray[np.int64], sample: int, rng: np.random.Generator) -> list[int]:
    """`sample` latents that fire (all of them, if there are fewer), in ascending order. `counts` are of firings."""
    firing = np.flatnonzero(counts)
    if not len(firing):
        raise UserError("No latent of this dictionary fires in the harvest: harvest more text.")
    return sorted(rng.choice(firing, min(sample, len(firing)), replace=False).tolist())


def tool_names(names: list[str], prefix: str, kind: str) -> list[str]:
    """Full names of labelling tools; `prefix` may be left out. UserError lists what there is."""
    from tools.workbench.registry import tools

    labelling = [name for name, tool in tools().items() if tool.family == "labelling"]
    menu = [name for name in labelling if name.startswith("score_") == (kind == "scorer")]
    found = []
    for name in names:
        full = name if name in menu else prefix + name
        if full not in menu:
            raise UserError(f"There is no {kind} {name!r}: name one or more of {', '.join(menu)}, separated by commas.")
        found.append(full)
    return list(dict.fromkeys(found))


def asked_roles(names: Sequence[str]) -> set[Role]:
    """The roles whose LLM these tools ask."""
    from tools.workbench.registry import get_tool

    return {role for name in names for role in get_tool(name).asks}
