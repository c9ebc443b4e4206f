"""A chat completion as endpoints send it, the log-probabilities in it, and structured replies."""

import math
import re
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prompts.errors import Refused, Unparseable
from store.types import LLMCall

Structured = TypeVar("Structured", bound=BaseModel)

FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
FILTERED = "content_filter"
DECLINED = re.compile(  # how chat models open a refusal in plain words; no explanation of a latent starts so
    r"\s*(I.m sorry|I am sorry|Sorry,|I apologi[sz]e|I cannot|I can.t|I am unable|I.m unable|As an AI)\b",
    re.IGNORECASE,
)
REFUSED = "refusal"


class _Candidate(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_Candidate] = []


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Function(BaseModel):
    name: str
    arguments: str = ""


class _ToolCall(BaseModel):
    function: _Function


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class Completion(BaseModel):
    """The fields of a chat completion that the house keeps; servers may send others."""

    choices: list[_Choice]
    usage: _Usage = _Usage()

    @property
    def text(self) -> str:
        message = self.choices[0].message
        return message.refusal or message.content or ""

    @property
    def finish_reason(self) -> str | None:
        return REFUSED if self.choices[0].message.refusal else self.choices[0].finish_reason

    @property
    def tool_calls(self) -> tuple[dict[str, str], ...] | None:
        """Name and arguments (JSON as sent) of each tool called; None when there is none."""
        calls = self.choices[0].message.tool_calls
        return tuple(call.function.model_dump() for call in calls) if calls else None

    @property
    def cached_tokens(self) -> int:
        details = self.usage.prompt_tokens_details
        return (details.cached_tokens if details else None) or 0

    @property
    def logprobs(self) -> dict[str, float] | None:
        """Candidates of the first reply token with their log-probabilities (nats); None when not sent."""
        sent = self.choices[0].logprobs
        if not sent or not sent.content:
            return None
        best: dict[str, float] = {}
        for candidate in sent.content[0].top_logprobs:
            if math.isfinite(candidate.logprob):
                best[candidate.token] = max(candidate.logprob, best.get(candidate.token, -math.inf))
        return best


@cache
def response_format(schema: type[BaseModel]) -> dict[str, Any]:
    """`schema` as the `response_format` of a request. ValueError when a string in it has no bound."""
    definition = schema.model_json_schema()
    _refuse_unbounded(definition, schema.__name__)
    return {"type": "json_schema", "json_schema": {"name": schema.__name__, "schema": definition}}


def _refuse_unbounded(part: Any, path: str) -> None:
    """A small model writes an unbounded string until its token limit, so every string states `max_length`."""
    if isinstance(part, dict):
        if part.get("type") == "string" and not part.keys() & {"maxLength", "enum", "const"}:
            raise ValueError(f"the string {path} has no max_length")
        for name, inner in part.items():
            _refuse_unbounded(inner, f"{path}.{name}")
    elif isinstance(part, list):
        for inner in part:
            _refuse_unbounded(inner, path)


def refuse_declined(call: LLMCall) -> None:
    """Raises Refused when the model or its provider declined to answer."""
    if call.finish_reason in (REFUSED, FILTERED):
        raise Refused(f"{call.model} declined to answer ({call.finish_reason}): {call.reply[:200]!r}")
    if DECLINED.match(call.reply):
        raise Refused(f"{call.model} declined to answer: {call.reply[:200]!r}")


def parse(call: LLMCall, schema: type[Structured] | None) -> Structured | None:
    """The structured reply of `call`, None without a schema. Raises Refused or Unparseable."""
    refuse_declined(call)
    if schema is None:
        if not call.reply.strip() and not call.logprobs:
            raise Unparseable(f"{call.model} sent an empty reply")
        return None
    fenced = FENCED.fullmatch(call.reply)
    try:
        return schema.model_validate_json(fenced[1] if fenced else call.reply)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "reply"
        cut = ", cut off at max_tokens" if call.finish_reason == "length" else ""
        raise Unparseable(
            f"the reply of {call.model} does not fit {schema.__name__} ({where}: {first['msg']}{cut}): "
            f"{call.reply[:200]!r}"
        ) from error
