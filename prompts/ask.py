"""The one door to LLMs: render, look in the cache, keep to limits and budget, send, record, parse.

    LLM.ask          one question
    LLM.act          one choice of what to do, by native tool calls or as one JSON object
    LLM.ask_many     many at once; an item that got no usable answer is a `NoAnswer` in its place

Every reply is in the cache the moment it arrives and in the ledger before `ask` returns it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pydantic import BaseModel

from prompts import template as templates
from prompts.actions import Act, Action, as_one_object, as_tools, read_acts
from prompts.budget import Budget
from prompts.cache import ReplyCache
from prompts.errors import LLMError, NoAnswer, Rejected
from prompts.limits import Gate
from prompts.pricing import dollars
from prompts.providers import Endpoint, Role, client
from prompts.reply import parse, response_format, usable
from prompts.transport import complete
from store.ids import content_hash
from store.ledger import Ledger
from store.types import LLMCall

ACT_TOKENS = 1024  # room for an act's arguments
MOST_REJECTIONS = 8  # in a row that fail their item only
CHARACTERS_PER_TOKEN = 2.0  # low, so that a reservation is never too small


@dataclass(frozen=True)
class Answer:
    """A reply: its row in the ledger, its text, its structured form when a schema was asked for."""

    call_id: str
    text: str
    parsed: BaseModel | None
    logprobs: dict[str, float] | None  # first reply token: candidate -> log-probability, nats
    cached: bool
    cut: bool = False  # at max_tokens


@dataclass(frozen=True)
class _Request:
    """A rendered question. `hash` covers all that its reply depends on: model, parameters, messages."""

    role: Role
    template: templates.Template
    messages: list[dict[str, str]]
    parameters: dict[str, Any]
    hash: str
    on_text: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Choice:
    """What the LLM chose to do: the reply's row in the ledger, the last message it was sent, what it said, its acts (at
    least one)."""

    call_id: str
    asked: str
    text: str
    acts: tuple[Act, ...]


Listener = Callable[[str], None]  # is told words of a reply as they stream


class LLM:
    """The endpoints of one session (one event loop). Close with `aclose`.

    `concurrency` bounds the requests in flight, `requests_per_minute` those started, over all roles. With `ask_again`
    a cached reply that cannot be used (a refusal, an unreadable one) is asked for anew. With `from_records` nothing is
    sent: every reply comes from the cache or the ledger, or an LLMError says it is not there.
    """

    def __init__(
        self,
        endpoints: Mapping[Role, Endpoint],
        ledger: Ledger,
        cache: Path,
        concurrency: int = 8,
        requests_per_minute: int | None = None,
        budget: Budget | None = None,
        ask_again: bool = False,
        from_records: bool = False,
    ) -> None:
        self.endpoints = dict(endpoints)
        self.budget = budget or Budget()
        self._ledger = ledger
        self._ask_again = ask_again
        self._from_records = from_records
        self._clients = {role: client(endpoint) for role, endpoint in self.endpoints.items()}
        self._cache = ReplyCache(cache)
        self._slots = asyncio.Semaphore(concurrency)
        self._gate = Gate(requests_per_minute)
        self._same: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sending: dict[asyncio.Task[LLMCall], Endpoint] = {}
        self._rejections: dict[Role, int] = {}  # in a row, since the role's endpoint first answered

    def serve(self, role: Role, endpoint: Endpoint) -> None:
        """From now on `endpoint` answers `role`, too."""
        self.endpoints[role], self._clients[role] = endpoint, client(endpoint)

    async def ask(
        self,
        role: Role,
        template: str,
        values: Mapping[str, Any],
        *,
        schema: type[BaseModel] | None = None,
        top_logprobs: int = 0,
        max_tokens: int | None = None,
    ) -> Answer:
        """The answer of `role`'s endpoint to a rendered template ("name" for its newest version, or "name.v2").

        Raises Refused, Unparseable or TooLong (all NoAnswer) for this one question; LLMError or BudgetSpent
        when no further question would fare better.
        """
        request = self._render(role, template, values, schema, top_logprobs, max_tokens)
        call, cached = await self._reply(request)
        if cached and self._ask_again and not usable(call, schema):
            self._cache.forget(request.hash)
            call, cached = await self._reply(request)
        await self._ledger.record(call)
        cut = call.finish_reason == "length"
        return Answer(call.id, call.reply, parse(call, schema), call.logprobs, cached, cut)

    async def act(
        self, role: Role, template: str, values: Mapping[str, Any], actions: Sequence[Action], on_text: Listener
    ) -> Choice:
        """What `role`'s endpoint chooses among `actions`: streamed tool calls where it has them, else one object.

        `on_text` is told what the LLM says beside its calls. Raises like `ask`; a reply that cannot be read is in the
        ledger all the same, and its row's id is the exception's `call_id`.
        """
        native = role in self.endpoints and self.endpoints[role].tool_calls
        offered = as_tools(actions) if native else as_one_object(actions)
        longest = max(ACT_TOKENS, self.endpoints[role].max_tokens) if role in self.endpoints else None
        request = self._render(role, template, values, None, 0, longest, offered, on_text if native else None)
        call, cached = await self._reply(request)
        await self._ledger.record(call)
        if cached and native and call.reply:
            on_text(call.reply)
        try:
            return Choice(call.id, call.messages[-1]["content"], call.reply, read_acts(call))
        except NoAnswer as failure:
            failure.call_id = call.id
            raise

    async def ask_many(
        self,
        role: Role,
        template: str,
        values: Sequence[Mapping[str, Any]],
        *,
        schema: type[BaseModel] | None = None,
        top_logprobs: int = 0,
        max_tokens: int | None = None,
    ) -> list[Answer | NoAnswer]:
        """`ask` for each of `values`, in their order. The first LLMError or BudgetSpent ends the rest."""

        async def one(item: Mapping[str, Any]) -> Answer | NoAnswer:
            try:
                return await self.ask(
                    role, template, item, schema=schema, top_logprobs=top_logprobs, max_tokens=max_tokens
                )
            except NoAnswer as failure:
                return failure

        tasks: list[asyncio.Task[Answer | NoAnswer]] = []
        try:
            async with asyncio.TaskGroup() as group:  # the first error stops the beginning of further ones, too
                for item in values:
                    tasks.append(group.create_task(one(item)))
                    await asyncio.sleep(0)  # begun one by one: rendering a long list must not keep replies waiting
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def aclose(self, grace_s: float = 30.0) -> None:
        """Closes, after waiting up to `grace_s` for replies on their way that cost money."""
        if paid := [task for task, endpoint in self._sending.items() if not endpoint.free]:
            await asyncio.wait(paid, timeout=grace_s)
        left = list(self._sending)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for each in self._clients.values():
            await each.close()
        self._cache.close()

    def _render(
        self,
        role: Role,
        template: str,
        values: Mapping[str, Any],
        schema: type[BaseModel] | None,
        top_logprobs: int,
        max_tokens: int | None,
        more: Mapping[str, Any] | None = None,
        on_text: Listener | None = None,
    ) -> _Request:
        if role not in self.endpoints:
            raise LLMError(f"No LLM is configured for the role {role.value!r}; name an endpoint and a model for it.")
        endpoint = self.endpoints[role]
        found = templates.load(template)
        messages = found.render(**values)
        parameters: dict[str, Any] = {"max_tokens": max_tokens or endpoint.max_tokens}
        if endpoint.temperature is not None:
            parameters["temperature"] = endpoint.temperature
        if schema is not None:
            parameters["response_format"] = response_format(schema)
        if top_logprobs:
            parameters |= {"logprobs": True, "top_logprobs": top_logprobs}
        parameters |= more or {}
        hash = content_hash([endpoint.model, parameters, messages])
        return _Request(role, found, messages, parameters, hash, on_text)

    async def _reply(self, request: _Request) -> tuple[LLMCall, bool]:
        """The call and whether it was in the cache. Of equal requests one is sent; the others await its reply."""
        lock = self._same.setdefault(request.hash, asyncio.Lock())
        async with lock:
            if (call := self._cache.get(request.hash)) is not None:
                return call, True
            if self._from_records:
                return self._recorded(request), True
            async with self._slots:
                # a task of its own: what is sent is paid, so it is kept even when the caller is cancelled
                sending = asyncio.create_task(self._send(request))
                self._sending[sending] = self.endpoints[request.role]
                sending.add_done_callback(self._sent)
                return await asyncio.shield(sending), False

    def _recorded(self, request: _Request) -> LLMCall:
        """The first reply to an equal request that the ledger holds."""
        found = self._ledger.find(LLMCall, request=request.hash)
        if not found:
            raise LLMError(
                f"No recorded reply answers this {request.template.id} request: its prompt, model or parameters differ."
            )
        return found[0]

    def _rejected(self, role: Role, failure: Rejected) -> None:
        """LLMError when it is not this one request that is at fault: nothing was answered yet, or many are refused."""
        self._rejections[role] = self._rejections.get(role, MOST_REJECTIONS) + 1
        if self._rejections[role] > MOST_REJECTIONS:
            raise LLMError(str(failure)) from failure

    def _sent(self, task: asyncio.Task[LLMCall]) -> None:
        del self._sending[task]
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not report it when the caller has gone

    async def _send(self, request: _Request) -> LLMCall:
        endpoint = self.endpoints[request.role]
        characters = sum(len(message["content"]) for message in request.messages)
        characters += len(str(request.parameters.get("tools", "")))
        at_most = dollars(endpoint, int(characters / CHARACTERS_PER_TOKEN), request.parameters["max_tokens"])
        self.budget.reserve(at_most, endpoint.model)
        try:
            completion, seconds = await complete(
                self._clients[request.role],
                endpoint,
                {"model": endpoint.model, "messages": request.messages, **request.parameters},
                self._gate,
                request.on_text,
            )
        except BaseException as failure:
            self.budget.release(at_most)
            if isinstance(failure, Rejected):
                self._rejected(request.role, failure)
            raise
        self._rejections[request.role] = 0
        usage = completion.usage
        usd = dollars(endpoint, usage.prompt_tokens, usage.completion_tokens, completion.cached_tokens)
        self.budget.settle(at_most, usd, usage.prompt_tokens + usage.completion_tokens)
        call = LLMCall(
            role=request.role.value,
            template=request.template.id,
            template_hash=request.template.hash,
            request=request.hash,
            model=endpoint.model,
            parameters=request.parameters,
            messages=tuple(request.messages),
            reply=completion.text,
            finish_reason=completion.finish_reason,
            logprobs=completion.logprobs,
            tool_calls=completion.tool_calls,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            usd=usd,
            seconds=seconds,
        )
        self._cache.put(call)
        return call
