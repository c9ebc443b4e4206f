"""The rows of the ledger, one table each.

Every `Fact` has an `id` that is the hash of all its other fields, so any row can be checked without trusting
its writer (`glossator verify`). Times are UTC without a zone.
"""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from store.ids import content_hash
from store.types.nouns import ActivationExample, Noun, UTCTime, now


class Fact(Noun):
    """A row of the ledger. `id` is derived from every other field; `created_at` makes replications distinct.

    Fields named in `later` came with a later migration: at their default they are left out of the hash, so that rows
    from before it keep their ids.
    """

    table: ClassVar[str]
    later: ClassVar[tuple[str, ...]] = ()
    created_at: UTCTime = Field(default_factory=now)

    @cached_property
    def id(self) -> str:
        fields = type(self).model_fields
        unset = {name for name in self.later if getattr(self, name) == fields[name].default}
        return content_hash({"table": self.table, **self.model_dump(mode="json", exclude=unset)})


class Investigation(Fact):
    """One question asked on a thread, and what it was asked of: enough to build the subject again."""

    table: ClassVar[str] = "investigations"
    thread: Annotated[str, Field(min_length=1)]
    question: Annotated[str, Field(min_length=1, pattern=r"\S")]
    subject: str  # `Context.fingerprint`
    model: str  # as the settings spelled it
    dictionary: str
    hook: str | None = None
    dtype: str
    seed: int
    llm: str  # the agent's model
    native: bool  # whether it was asked by tool calls, or by JSON schema
    limits: dict[str, Any]


class Hypothesis(Fact):
    """A claim about a latent, a direction or a behaviour; `refines` points at its parent hypothesis.

    A `dull` one is the rival to be beaten: an account by frequency, position or token identity.
    """

    table: ClassVar[str] = "hypotheses"
    later: ClassVar[tuple[str, ...]] = ("investigation", "dull")
    about: Annotated[str, Field(min_length=1)]
    claim: Annotated[str, Field(min_length=1)]
    refines: str | None = None
    investigation: str | None = None
    dull: bool = False


class Comparison(StrEnum):
    """How a prediction compares the measured number with its threshold."""

    GREATER = ">"
    AT_LEAST = ">="
    LESS = "<"
    AT_MOST = "<="


class Prediction(Fact):
    """What a hypothesis says a tool will measure, registered before the tool runs; it decides itself.

    A `counterexample` predicts on minimal pairs: texts that differ in the supposed cause alone.
    """

    table: ClassVar[str] = "predictions"
    later: ClassVar[tuple[str, ...]] = ("counterexample",)
    hypothesis: str
    tool: Annotated[str, Field(min_length=1)]
    input: dict[str, Any]
    measure: Annotated[str, Field(min_length=1)]  # dotted path into the tool's output
    comparison: Comparison
    threshold: FiniteFloat
    counterexample: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.tool} {self.measure} {self.comparison} {self.threshold:.4g}"

    def measured(self, output: dict[str, Any]) -> float:
        """The number predicted about. Raises KeyError when `output` has no such number."""
        value: Any = output
        for part in self.measure.split("."):
            if not isinstance(value, dict) or part not in value:
                raise KeyError(self.measure)
            value = value[part]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise KeyError(self.measure)
        return float(value)

    def allows(self, value: float) -> bool:
        """Whether the measure may have this value."""
        match self.comparison:
            case Comparison.GREATER:
                return bool(value > self.threshold)
            case Comparison.AT_LEAST:
                return bool(value >= self.threshold)
            case Comparison.LESS:
                return bool(value < self.threshold)
            case Comparison.AT_MOST:
                return bool(value <= self.threshold)


class Experiment(Fact):
    """One run of one tool. Exactly one of `output` and `error` is set.

    `key` is the hash of (tool, version, subject, input, seed): equal keys are replications.
    `subject` is the fingerprint of model, dictionary and harvest (`Context.fingerprint`), `adapter` the LoRA in the
    model, as `--adapter` names it; `opening` the settings that the subject is opened with again.
    """

    table: ClassVar[str] = "experiments"
    later: ClassVar[tuple[str, ...]] = ("adapter", "opening")
    tool: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)]
    subject: str
    input: dict[str, Any]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    latent: str | None = None
    output: dict[str, Any] | None = None
    error: Annotated[str, Field(min_length=1)] | None = None
    controls: dict[str, Any] = Field(default_factory=dict)
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    device: str
    prediction: str | None = None
    adapter: str | None = None
    opening: dict[str, str] | None = None

    @model_validator(mode="after")
    def _output_or_error(self) -> Self:
        if (self.output is None) == (self.error is None):
            raise ValueError("an experiment has either an output or an error")
        return self

    @cached_property
    def key(self) -> str:
        return experiment_key(self.tool, self.version, self.subject, self.input, self.seed)


class Judgement(Fact):
    """What code made of a prediction and its experiment. `held` is None where the run cannot decide: it gave no such
    number, or what it measured is not clear of chance or of its controls."""

    table: ClassVar[str] = "judgements"
    prediction: str
    experiment: str
    held: bool | None
    value: FiniteFloat | None  # of the prediction's measure

    @classmethod
    def of(cls, prediction: Prediction, experiment: Experiment) -> Self:
        """The one verdict there is: the prediction decides itself on the experiment's output.

        A run that is not clear shows nothing but that there may be nothing: it refutes what neither the number measured
        nor the one expected of nothing (chance for a score, 0 for a change) bears out, and decides nothing else.
        """
        output = experiment.output or {}
        try:
            value = prediction.measured(output)
        except KeyError:
            return cls(prediction=prediction.id, experiment=experiment.id, held=None, value=None)
        held: bool | None = prediction.allows(value)
        if not clear(output):
            nothing = float(output.get("chance", 0.0))
            held = None if held or prediction.allows(nothing) else False
        return cls(prediction=prediction.id, experiment=experiment.id, held=held, value=value)

    @property
    def words(self) -> str:
        """What became of the prediction."""
        if self.value is None:
            return "undecided: the test gave no such number"
        told = {True: "held", False: "FAILED", None: "undecided, not clear of chance or controls"}
        return f"measured {self.value:.4g}: {told[self.held]}"


def clear(output: dict[str, Any]) -> bool:
    """Whether a run's result stands clear of its controls, where the tool says so, and a score's interval of chance
    and of what another latent's explanation scores. A tool with neither compares with its controls in its measures."""
    if "clear" in output:
        return bool(output["clear"])
    if output.get("chance") is None or output.get("low") is None:
        return True
    return bool(output["low"] > max(output["chance"], output.get("floor") or 0.0))


class ToolOffer(Fact):
    """The tools that one question to the agent's LLM offered. `call` is None when no reply came."""

    table: ClassVar[str] = "tool_offers"
    investigation: str
    step: Annotated[str, Field(min_length=1)]
    round: Annotated[int, Field(ge=1)]
    tools: tuple[str, ...]
    call: str | None


class ToolUse(Fact):
    """An experiment that an investigation ran, in which step and why."""

    table: ClassVar[str] = "tool_uses"
    investigation: str
    step: Annotated[str, Field(min_length=1)]
    round: Annotated[int, Field(ge=1)]
    experiment: str
    why: str


def experiment_key(tool: str, version: int, subject: str, input: dict[str, Any], seed: int) -> str:
    """The key two experiments share when one replicates the other."""
    return content_hash([tool, version, subject, input, seed])


class Explanation(Fact):
    """What a latent stands for, in words or as a graph, with the evidence its author was shown."""

    table: ClassVar[str] = "explanations"
    latent: str
    text: Annotated[str, Field(min_length=1, pattern=r"\S")]
    method: Annotated[str, Field(min_length=1)]  # the tool that wrote it
    explainer: str  # the LLM's name, or "none" for a method without one
    experiment: str | None  # the run that wrote it; None when a person did
    evidence: tuple[ActivationExample, ...] = ()
    graph: dict[str, Any] | None = None


class Score(Fact):
    """How well an explanation does on one test: value, 95 % interval, chance level and shuffled floor.

    `floor` is the same scorer's value with another latent's explanation. `n` counts judged items,
    `unparsed` those whose verdict could not be read (they are never counted as wrong).
    """

    table: ClassVar[str] = "scores"
    explanation: str
    experiment: str
    scorer: Annotated[str, Field(min_length=1)]
    judge: str
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    chance: FiniteFloat
    floor: FiniteFloat | None  # None: no other latent's explanation was there to shuffle in
    n: Annotated[int, Field(ge=1)]
    unparsed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _interval(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] does not hold the value {self.value}")
        return self


class LLMCall(Fact):
    """One request to an LLM and its reply, as paid for. `request` hashes everything the reply depends on."""

    table: ClassVar[str] = "llm_calls"
    later: ClassVar[tuple[str, ...]] = ("tool_calls",)
    role: Annotated[str, Field(min_length=1)]
    template: Annotated[str, Field(min_length=1)]  # name.v<n>
    template_hash: str
    request: str  # hash of (base URL host aside) model, parameters and messages: the cache key
    model: str
    parameters: dict[str, Any]
    messages: tuple[dict[str, Any], ...]
    reply: str
    finish_reason: str | None = None
    logprobs: dict[str, FiniteFloat] | None = None  # first reply token: candidate -> log-probability, nats
    tool_calls: tuple[dict[str, str], ...] | None = None  # {"name", "arguments": JSON as sent}, in their order
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]
    usd: Annotated[FiniteFloat, Field(ge=0)] | None = None  # None: the price is unknown
    seconds: Annotated[FiniteFloat, Field(ge=0)]


class Verdict(StrEnum):
    """What a person says of an explanation."""

    ACCEPT = "accept"
    REJECT = "reject"
    REWRITE = "rewrite"


class Review(Fact):
    """A person's verdict on an explanation. A rewrite names the better explanation, a row of its own."""

    table: ClassVar[str] = "reviews"
    explanation: str
    verdict: Verdict
    reviewer: Annotated[str, Field(min_length=1)]
    note: str = ""
    rewrite: str | None = None

    @model_validator(mode="after")
    def _rewrite_named(self) -> Self:
        if (self.verdict is Verdict.REWRITE) != (self.rewrite is not None):
            raise ValueError("a rewrite, and only a rewrite, names the better explanation")
        return self


class Claim(Noun):
    """One sentence of a conclusion with the ids of the experiments it rests on.

    `hypothesis` and `stance` say what it holds of which hypothesis (both None for a plain observation); `conjecture`
    is set by code on a sentence without evidence; `author` is "code" where the LLM did not write it.
    """

    sentence: Annotated[str, Field(min_length=1)]
    evidence: tuple[str, ...] = ()
    hypothesis: str | None = None
    stance: Literal["for", "against"] | None = None
    conjecture: bool = False
    author: Literal["llm", "code"] = "llm"

    @property
    def seen(self) -> bool:
        """Whether it tells what a run showed, and decides nothing."""
        return self.stance is None and not self.conjecture

    @model_validator(mode="after")
    def _conjecture_marked(self) -> Self:
        if self.conjecture == bool(self.evidence):
            raise ValueError("a claim without evidence, and only such a claim, is a conjecture")
        return self


class Conclusion(Fact):
    """How an investigation ended: `reason` is "concluded", "untested" or the limit that was reached."""

    table: ClassVar[str] = "conclusions"
    investigation: str
    reason: Annotated[str, Field(min_length=1)]
    claims: tuple[Claim, ...]


FACTS: tuple[type[Fact], ...] = (
    Hypothesis,
    Prediction,
    Experiment,
    Explanation,
    Score,
    LLMCall,
    Review,
    Investigation,
    Judgement,
    ToolOffer,
    ToolUse,
    Conclusion,
)
