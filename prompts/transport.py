"""One chat completion over the wire: retries, and one clear sentence for each way an endpoint can fail."""

import asyncio
import email.utils
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI
from pydantic import ValidationError

from prompts.errors import LLMError, Refused, TooLong
from prompts.limits import Gate
from prompts.providers import Endpoint
from prompts.reply import Completion
from prompts.stream import streamed

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LONGEST_RETRY_AFTER_S = 300.0
FILTER_CODES = ("content_filter", "content_policy_violation")
LENGTH_CODES = ("context_length_exceeded", "exceed_context_size_error")

log = logging.getLogger(__name__)


class _Transient(Exception):
    """An attempt failed in a way that may pass; the text is the sentence should it not."""

    def __init__(self, sentence: str, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


async def complete(
    client: AsyncOpenAI,
    endpoint: Endpoint,
    request: dict[str, Any],
    gate: Gate,
    on_text: Callable[[str], None] | None = None,
) -> tuple[Completion, float]:
    """The completion and the seconds of the attempt that brought it; streamed when somebody listens to its words.

    Raises LLMError, Refused or TooLong.
    """
    for attempt in range(endpoint.retries + 1):
        await gate.passage()
        started = time.monotonic()
        try:
            return await _attempt(client, endpoint, request, on_text), time.monotonic() - started
        except _Transient as failure:
            if attempt == endpoint.retries:
                tries = f" (tried {attempt + 1} times)" if attempt else ""
                raise LLMError(f"{failure}{tries}.") from failure.__cause__
            wait_s = failure.wait_s
            if wait_s is None:
                wait_s = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.75, 1.25)
            else:
                gate.pause(wait_s)
            log.warning("%s; trying again in %.1f s", failure, wait_s)
            await asyncio.sleep(wait_s)
    raise AssertionError("unreachable")


async def _attempt(
    client: AsyncOpenAI, endpoint: Endpoint, request: dict[str, Any], on_text: Callable[[str], None] | None
) -> Completion:
    url = endpoint.url
    try:
        if on_text is not None:
            return await streamed(client, request, on_text)
        # not `chat.completions.create`, whose walk through the parameters' types costs a third of the CPU
        raw = await client.post("/chat/completions", cast_to=httpx2.Response, body=request)
    except openai.APITimeoutError as error:
        raise _Transient(
            f"{url} did not answer within {endpoint.timeout_s:g} s; raise the timeout or lower the concurrency"
        ) from error
    except openai.APIConnectionError as error:
        raise _connection_failure(endpoint, error) from error
    except openai.APIStatusError as error:
        raise _status_failure(endpoint, error) from error
    except (openai.APIError, ValueError) as error:
        raise _Transient(
            f"{url} broke off its stream ({_short(endpoint.redact(str(error)))}); check the server's log"
        ) from error
    body = endpoint.redact(raw.text)
    if body.lstrip().startswith("<"):
        raise LLMError(f"{url} answers with a web page, not with chat completions; check the base URL.")
    try:
        completion = Completion.model_validate_json(body)
        if not completion.choices:
            raise ValueError("no choices")
    except ValueError as error:
        kind = "invalid JSON" if _is_syntax(error) else "JSON that is not a chat completion"
        raise _Transient(f"{url} answers with {kind} ({_short(body)!r}); check the base URL and the server") from error
    return completion


def _is_syntax(error: ValueError) -> bool:
    return isinstance(error, ValidationError) and error.errors()[0]["type"] == "json_invalid"


def _connection_failure(endpoint: Endpoint, error: openai.APIConnectionError) -> _Transient:
    cause = error.__cause__
    if isinstance(cause, httpx2.ConnectError):
        return _Transient(
            f"Nothing answers at {endpoint.url} ({_short(str(cause))}); start the server or correct the base URL"
        )
    return _Transient(
        f"{endpoint.url} broke the connection before its reply was complete "
        f"({_short(endpoint.redact(str(cause or error)))}); check the server's log"
    )


def _status_failure(endpoint: Endpoint, error: openai.APIStatusError) -> Exception:
    """What a status means: an error to raise, `_Transient` when another try may help."""
    url, status = endpoint.url, error.status_code
    codes = _codes(error.body)
    said = _said(endpoint, error)
    if codes & set(FILTER_CODES):
        return Refused(f"{url} filtered the request: {said}")
    if codes & set(LENGTH_CODES):
        return TooLong(f"the prompt does not fit the context of {endpoint.model} at {url}: {said}")
    if status in (401, 403):
        return LLMError(f"{url} refused the API key ({status}); set a key that is valid for {endpoint.model}.")
    if status == 404:
        return LLMError(f"{url} has no chat completions for model {endpoint.model!r} (404: {said}); check both names.")
    if status == 429:
        wait_s = _retry_after_s(error.response.headers)
        if "insufficient_quota" in codes:
            return LLMError(f"The account at {url} has no credit left (429); add credit or use another endpoint.")
        if wait_s is not None and wait_s > LONGEST_RETRY_AFTER_S:
            return LLMError(f"{url} asks for a pause of {wait_s:.0f} s (429); run again after it.")
        return _Transient(
            f"{url} answers 429, too many requests; lower the concurrency or the requests per minute", wait_s
        )
    if status in (408, 409) or status >= 500:
        return _Transient(
            f"{url} answers with an error of its own ({status}: {said}); check the server's log",
            _retry_after_s(error.response.headers),
        )
    return LLMError(f"{url} refused the request for model {endpoint.model!r} ({status}: {said}).")


def _codes(body: object) -> set[str]:
    """The machine-readable words of an error body, as OpenAI and llama.cpp spell them."""
    if not isinstance(body, dict):
        return set()
    return {value for key in ("code", "type") if isinstance(value := body.get(key), str)}


def _said(endpoint: Endpoint, error: openai.APIStatusError) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    text = message if isinstance(message, str) else error.response.text
    if text.lstrip().startswith("<"):
        return "a web page"
    return _short(endpoint.redact(text)) or "no reason given"


def _short(text: str, limit: int = 200) -> str:
    """One line of printable characters, cut at `limit`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds asked for by `retry-after-ms` or `retry-after` (seconds or a date); None when neither is readable."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
