"""What the labelling tools return, and the ledger's nouns made from it."""

import re
from typing import Any

from pydantic import Field

from prompts.ask import Answer
from store.types import ActivationExample, Experiment, Explanation, Score
from tools.workbench.registry import ToolError, ToolOutput


class ExplanationOutput(ToolOutput):
    """An explanation and what its author was shown."""

    latent: str
    text: str = Field(min_length=1)
    explainer: str  # the LLM's name, or "none"
    evidence: tuple[ActivationExample, ...] = ()
    graph: dict[str, Any] | None = None


class ScoreOutput(ToolOutput):
    """A score with its 95 % interval, the value of guessing, and the value of another latent's explanation."""

    latent: str
    judge: str  # the LLM's name, or "none"
    value: float
    low: float
    high: float
    chance: float
    floor: float | None
    n: int = Field(description="judged items that `value` rests on")
    unparsed: int = Field(description="items without a readable verdict; left out, never counted as wrong")


def llm_failed(model: str, how: str) -> ToolError:
    """The failure of a run whose LLM gave nothing to use; `how` goes on "gave no"."""
    return ToolError(f"{model} gave no {how}")


def blamed(error: str) -> str | None:
    """The LLM that a failed run's error blames; None when it was not the LLM."""
    match = re.match(r"(.+?) gave no ", error)
    return match[1] if match else None


def one_line(answer: Answer, explainer: str) -> str:
    """An explainer's words. ToolError when they were cut off: half a sentence is no explanation."""
    text = " ".join(answer.text.split())
    if answer.cut:
        raise llm_failed(explainer, f"explanation that ends within its limit of tokens: {text[:200]!r}.")
    return text


def explanation_of(experiment: Experiment) -> Explanation:
    """The explanation that a successful run of a labelling tool wrote. Raises ValueError for a failed run."""
    output = _output(experiment)
    return Explanation(
        latent=output["latent"],
        text=output["text"],
        method=experiment.tool,
        explainer=output["explainer"],
        experiment=experiment.id,
        evidence=output["evidence"],
        graph=output["graph"],
    )


def score_of(experiment: Experiment, explanation: Explanation) -> Score:
    """The score that a successful run of a scorer gave `explanation`. Raises ValueError for a failed run."""
    output = _output(experiment)
    fields = {name: output[name] for name in ("judge", "value", "low", "high", "chance", "floor", "n", "unparsed")}
    return Score(explanation=explanation.id, experiment=experiment.id, scorer=experiment.tool, **fields)


def documents_shown(explanation: Explanation) -> tuple[int, ...]:
    """The documents its author saw: what every scorer is told, so that it can refuse to use them."""
    return tuple(sorted({example.document for example in explanation.evidence}))


def _output(experiment: Experiment) -> dict[str, Any]:
    if experiment.output is None:
        raise ValueError(f"experiment {experiment.id} failed: {experiment.error}")
    return experiment.output
