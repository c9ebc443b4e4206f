"""Who answers: the endpoint of each role, and the client that speaks to it."""

import socket
import ssl
from enum import StrEnum
from functools import cache
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import Field, SecretStr

from prompts.errors import LLMError
from store.types import Noun

OPENAI = "https://api.openai.com/v1"
PORTS = {"http": 80, "https": 443}
CONNECT_S = 5.0


class Role(StrEnum):
    """Who asks: each role may have an endpoint of its own."""

    AGENT = "agent"
    EXPLAINER = "explainer"
    JUDGE = "judge"


class Endpoint(Noun):
    """An OpenAI-compatible endpoint and how to use it.

    `capable` marks a large model: it is shown more examples, and may give several verdicts in one reply.
    `tool_calls` says that it takes native tools; without, the agent asks it for JSON objects.
    `prices` overrules the price list: US dollars per million (prompt, completion) tokens.
    """

    base_url: str | None = None  # None: OpenAI's own
    api_key: SecretStr | None = None
    model: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0)] | None = 0.0  # None: not sent, for models that refuse the parameter
    max_tokens: Annotated[int, Field(ge=1)] = 512
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    retries: Annotated[int, Field(ge=0)] = 5
    capable: bool = False
    tool_calls: bool = False
    prices: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = None

    @property
    def url(self) -> str:
        """The base URL as shown to people."""
        return shown(self.base_url or OPENAI)

    @property
    def free(self) -> bool:
        return self.prices == (0.0, 0.0)

    def redact(self, text: str) -> str:
        """`text` without the API key, should a server have echoed it."""
        key = self.api_key.get_secret_value() if self.api_key else ""
        return text.replace(key, "***") if key else text


def shown(base_url: str) -> str:
    """`base_url` without user, password and query."""
    parts = urlsplit(base_url)
    if not parts.netloc:
        return base_url
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def check(endpoint: Endpoint) -> None:
    """LLMError when the address or the key cannot be right."""
    parts = urlsplit(endpoint.base_url or OPENAI)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LLMError(f"{endpoint.url!r} is not a base URL; write one like http://127.0.0.1:8000/v1.")
    if endpoint.base_url is None and endpoint.api_key is None:
        raise LLMError(f"{OPENAI} needs an API key; set one, or name the base URL of another endpoint.")


def check_listening(endpoint: Endpoint) -> None:
    """LLMError when the endpoint is on this machine and nothing listens there; others, who may be behind a proxy, are
    not tried."""
    parts = urlsplit(endpoint.base_url or OPENAI)
    if not _loopback(endpoint):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), CONNECT_S).close()
    except OSError as error:
        raise LLMError(
            f"Nothing answers at {endpoint.url} ({error.strerror or error}); start the server or correct the base URL."
        ) from None


def _loopback(endpoint: Endpoint) -> bool:
    return urlsplit(endpoint.base_url or OPENAI).hostname in ("localhost", "127.0.0.1", "::1")


def client(endpoint: Endpoint) -> AsyncOpenAI:
    """A client without retries of its own. LLMError when `check` finds a fault."""
    check(endpoint)
    return AsyncOpenAI(
        base_url=endpoint.base_url or OPENAI,
        # never the SDK's default, OPENAI_API_KEY: that key is not for every endpoint
        api_key=endpoint.api_key.get_secret_value() if endpoint.api_key else "none",
        timeout=endpoint.timeout_s,
        max_retries=0,
        # no proxy stands before loopback
        http_client=DefaultAsyncHttpxClient(verify=_certificates(), trust_env=not _loopback(endpoint)),
    )


@cache
def _certificates() -> ssl.SSLContext:
    """The authorities that this machine trusts: 70 ms to read, so all clients share them."""
    return httpx2.create_ssl_context()
