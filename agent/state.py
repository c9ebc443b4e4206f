"""What an investigation remembers between two steps: plain JSON, so that a thread can be stored and taken up again."""

from datetime import datetime
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

from agent.inquiry.auditing import asks_audit
from agent.inquiry.events import Step
from store.errors import UserError
from store.types import Claim, Comparison, Experiment

VERSION = 4  # of what a checkpoint holds


class State(TypedDict, total=False):
    """The graph's state. `case` is a dumped `Case`, None for a fresh question; `history` earlier questions' ends."""

    version: int
    question: str
    case: dict[str, Any] | None
    history: list[str]


class Part(BaseModel):
    """Base of the parts of a case."""

    model_config = ConfigDict(extra="forbid")


class Stated(Part):
    """A hypothesis: H1, H2, ... to the LLM, `id` in the ledger."""

    label: str
    id: str
    claim: str
    dull: bool
    holds: str | None = None  # what the words hold on which it fires, where code states so
    says: bool = True  # something about words: it fits some of those offered for a test, and not all


class Foretold(Part):
    """A prediction that waits for its test, or what became of it. `held` is None until, or unless, it was decided."""

    id: str
    hypothesis: str  # label
    sentence: str
    counterexample: bool
    measure: str
    comparison: Comparison
    threshold: float
    run: str | None = None  # label
    judged: bool = False
    note: str = ""  # why its test was not run
    held: bool | None = None


class Pending(Part):
    """A run to be made: validated input, the reason, the predictions it tests (ids; none for an observation)."""

    tool: str
    input: dict[str, Any]
    why: str
    since: datetime  # an equal run made later than this is this one
    predictions: list[str] = []


class Ran(Part):
    """An experiment: E1, E2, ... to the LLM, `id` in the ledger."""

    label: str
    id: str
    key: str
    tool: str
    ok: bool
    line: str
    more: str  # figures and what may follow, for a native LLM


class Turn(Part):
    """What the LLM was asked and what it said, and how many runs it had been shown by then."""

    asked: str
    said: str
    runs: int


class Case(Part):
    """One question under investigation."""

    version: int = VERSION
    thread: str
    question: str
    subject: str  # Context.fingerprint
    investigation: str
    began: datetime
    history: list[str] = []
    step: Step | Literal["begin"] = "begin"
    next: Step | Literal["end"] = "frame"
    round: int = 1
    latent: int | None = None
    contrast: dict[str, Any] = {}  # where pairs of prompts come from that show the behaviour in question
    aim: str = ""
    hypotheses: list[Stated] = []
    predictions: list[Foretold] = []
    runs: list[Ran] = []
    queue: list[Pending] = []
    refused: list[str] = []  # keys of runs that were not approved, or could not be made
    turns: list[Turn] = []  # with a small LLM, which is asked in one conversation
    last: Turn | None = None  # not known yet to be of use
    problem: str = ""  # why the last reply was not used
    stumbles: int = 0  # replies in a row that were not used
    asked: int = 0  # questions put in this visit of the step
    fresh: bool = False  # this round brought a new experiment
    quiet: int = 0  # rounds in a row that did not
    ended: str | None = None  # the limit that was reached
    mute: bool = False  # the LLM is not asked any more
    draft: list[Claim] = []  # the LLM's last claims, some of whose evidence did not hold up
    tool_calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0

    def hypothesis(self, label: str) -> Stated | None:
        return next((h for h in self.hypotheses if h.label == label), None)

    def run(self, label: str) -> Ran | None:
        return next((r for r in self.runs if r.label == label), None)

    @property
    def audits(self) -> bool:
        """Whether it asks what the model hides."""
        return asks_audit(self.question)

    @property
    def undecided(self) -> bool:
        """Whether a test was run whose predictions nobody has judged."""
        return any(prediction.run and not prediction.judged for prediction in self.predictions)

    def standing(self, label: str) -> str:
        """ "refuted", "supported" or "untested", by the predictions judged so far."""
        held = [p.held for p in self.predictions if p.hypothesis == label and p.held is not None]
        return "untested" if not held else "supported" if all(held) else "refuted"

    def decided_by(self, label: str) -> list[str]:
        """The runs on which the hypothesis stands or fell."""
        held = self.standing(label) == "supported"
        by = [p.run for p in self.predictions if p.hypothesis == label and p.run and p.held is held]
        return list(dict.fromkeys(by))

    @property
    def tested(self) -> bool:
        """Whether any prediction was decided."""
        return any(prediction.held is not None for prediction in self.predictions)

    @property
    def told_apart(self) -> bool:
        """Whether a hypothesis that is not dull is supported and every dull one refuted."""
        standing = {h.label: self.standing(h.label) for h in self.hypotheses}
        dull = [standing[h.label] for h in self.hypotheses if h.dull]
        real = [standing[h.label] for h in self.hypotheses if not h.dull]
        return "supported" in real and set(dull) == {"refuted"}

    def goes(self, step: Step | Literal["end"]) -> None:
        """The next step, with a clean slate."""
        self.next, self.asked, self.problem, self.stumbles = step, 0, "", 0

    def stop(self, limit: str, *, mute: bool) -> None:
        """A limit is reached; the first one names the end."""
        self.ended, self.mute = self.ended or limit, self.mute or mute

    def unused(self, problem: str) -> None:
        """The last reply is not used, because."""
        self.problem, self.last = problem, None

    def stumble(self, problem: str) -> None:
        """The last reply is not used, and counts as one of those in a row."""
        self.unused(problem)
        self.stumbles += 1

    def add_run(self, experiment: Experiment, line: str, more: str) -> Ran:
        label, ok = f"E{len(self.runs) + 1}", experiment.error is None
        ran = Ran(label=label, id=experiment.id, key=experiment.key, tool=experiment.tool, ok=ok, line=line, more=more)
        self.runs.append(ran)
        return ran


def load_case(state: Any, thread: str) -> Case | None:
    """The case in a stored state; UserError when another version of Glossator wrote it."""
    found = state.get("version", VERSION)
    if found != VERSION:
        raise UserError(
            f"The thread {thread} was stored by another version of Glossator (its form is {found}, this program's "
            f"{VERSION}): its evidence is in the store, but it cannot be continued; start a new thread."
        )
    return Case.model_validate(state["case"]) if state.get("case") else None
