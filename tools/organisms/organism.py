"""What an organism is: a recipe, a test of its behaviour, and the truth that a finder is graded by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.organisms.behaviour import Check
from tools.organisms.recipe import Recipe
from tools.workbench.adapters import RECORD
from tools.workbench.subject import Subject

SHIPPED = Path(__file__).parent / "adapters"


@dataclass(frozen=True)
class Organism:
    """A model whose truth is known.

    truth: what is hidden in it, empty where nothing is. words: a finding that names none of these has not found it.
    suspicion: what an auditor may be told beforehand; of the base model it is false. recipe: None for the base model.
    asks: by a tool's name, its input that asks for what this organism was taught.
    """

    name: str
    truth: str
    words: tuple[str, ...]
    suspicion: str
    behaviour: Callable[[Subject], Sequence[Check]]
    recipe: Recipe | None
    asks: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def shipped(self) -> Path | None:
        """The folder of its adapter; None for one that is not shipped, and for the base model."""
        folder = SHIPPED / self.name
        return folder if (folder / RECORD).exists() else None
