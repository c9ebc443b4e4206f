"""A stand-in for an LLM server: a real HTTP server in a process of its own, with behaviours a test can script.

    with Stub(latency_s=0.2, reply="days of the week") as stub:
        ... stub.base_url ...
        stub.script("429", "429", "ok")      # the next three requests; then the default again
        stub.stats()                          # {"requests": 3, "distinct": 1, "most_in_flight": 1, ...}

Behaviours
    ok              the configured `reply`; with a JSON schema every string in it is `reply`, every number 1
    judge           "1" or "0" with log-probabilities: 1 when the last message holds one of the `truth` strings
                    (the oracle judge; `truth` may also be set later with `stub.configure`)
    yes, no         the constant judge, with log-probabilities
    words           the explainer and judge that agree: explains a latent by its "Activating tokens" and, as a
                    judge, says 1 when the snippet holds one of the words of the explanation
    agent           acts: the first of the option `acts` (name -> arguments, or a list of them, one a time) that is
                    offered, as streamed tool calls or as one JSON object; "#" becomes the number of the request
    unknown_tool, malformed, silent, stream_dies       an agent that calls what is not offered, sends arguments that
                    are no JSON, says nothing, breaks off in mid-stream
    fenced          the `reply` as it is, whatever the schema
    refusal, content_filter, unparseable, empty        replies without a usable answer
    401, 404, 429, 429_short, 429_long, 500, too_long  error statuses
    html, invalid_json, not_a_completion, half, hang   what is no reply at all
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STATUS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many", 500: "Internal"}
ROOT = Path(__file__).resolve().parents[1]


class Stub:
    """The server process. `options`: latency_s, behaviour, reply, truth (list of strings), api_key."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.stub_llm", json.dumps(self.options)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().strip()
        assert self.base_url.startswith("http"), "the stub did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stdin):
            if pipe:
                pipe.close()

    def configure(self, **options: Any) -> None:
        """Changes options from now on."""
        self._call("configure", options)

    def reset(self) -> None:
        """Back to the options it was started with, and to no requests."""
        self._call("reset", {})

    def script(self, *behaviours: str) -> None:
        """The behaviours of the next requests, one each."""
        self._call("configure", {"script": list(behaviours)})

    def stats(self) -> dict[str, Any]:
        """requests, distinct (different bodies), most_in_flight, times (seconds), keys (sent), last (body), asked (the
        last message of each request)."""
        return dict(self._call("stats", {}))

    def _call(self, path: str, value: Any) -> Any:
        request = urllib.request.Request(f"{self.base_url}/{path}", json.dumps(value).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return json.load(reply)


class Server:
    def __init__(self, options: dict[str, Any]) -> None:
        self.started_with = options
        self.reset()

    def reset(self) -> None:
        self.options = {"latency_s": 0.0, "behaviour": "ok", "reply": "days of the week", "truth": [], "script": []}
        self.options["acts"] = {}
        self.options |= self.started_with
        self.distinct: set[str] = set()
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.last: dict[str, Any] = {}
        self.asked: list[str] = []
        self.in_flight = self.most_in_flight = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.exchange(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ", 2)[1].rpartition("/")[2]
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if path == "stats":
            stats = {
                "requests": len(self.times),
                "distinct": len(self.distinct),
                "times": self.times,
                "most_in_flight": self.most_in_flight,
                "keys": sorted(self.keys),
                "last": self.last,
                "asked": self.asked,
            }
            return send(writer, 200, json.dumps(stats))
        if path == "reset":
            self.reset()
            return send(writer, 200, "{}")
        if path == "configure":
            self.options |= json.loads(body)
            return send(writer, 200, "{}")
        self.times.append(asyncio.get_running_loop().time())
        self.distinct.add(hashlib.sha256(body).hexdigest())
        self.keys |= set(re.findall(r"(?im)^authorization: *Bearer +(\S+)", head))
        self.last = request = json.loads(body)
        self.asked.append(request["messages"][-1]["content"])
        behaviour = self.options["script"].pop(0) if self.options["script"] else self.options["behaviour"]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(3600 if behaviour == "hang" else self.options["latency_s"])
        finally:
            self.in_flight -= 1
        return self.answer(writer, behaviour, request, head)

    def chosen(self, request: dict[str, Any]) -> tuple[str, Any] | None:
        """The first of `acts` that the request offers, with its next arguments; a list that ends in None is used up."""
        for name, given in self.options["acts"].items():
            if name in offered(request):
                arguments = given if isinstance(given, dict) else given.pop(0) if len(given) > 1 else given[0]
                if arguments is None:
                    continue
                return name, json.loads(json.dumps(arguments).replace("#", str(len(self.times))))
        return None

    def answer(self, writer: asyncio.StreamWriter, behaviour: str, request: dict[str, Any], head: str) -> bool:
        match behaviour:
            case "401":
                key = re.search(r"(?im)^authorization: *Bearer +(\S+)", head)
                return send(writer, 401, failure(f"Incorrect API key provided: {key[1] if key else ''}"))
            case "404":
                return send(writer, 404, failure("model not found"))
            case "429":
                return send(writer, 429, failure("slow down"), "retry-after-ms: 20\r\n")
            case "429_short":
                return send(writer, 429, failure("slow down"), "retry-after: 1\r\n")
            case "429_long":
                return send(writer, 429, failure("slow down"), "retry-after: 3600\r\n")
            case "500":
                return send(writer, 500, failure("out of memory"), "retry-after-ms: 20\r\n")
            case "too_long":
                return send(writer, 400, failure("too many tokens", "context_length_exceeded"))
            case "400":
                return send(writer, 400, failure("invalid request"))
            case "html":
                return send(writer, 200, "<!doctype html><title>Sign in</title>", kind="text/html")
            case "invalid_json":
                return send(writer, 200, '{"choices": [{"message": {"content": "da')
            case "not_a_completion":
                return send(writer, 200, '{"status": "fine"}')
            case "half":
                text = completion("days of the week")
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text[:40]}".encode())
                return False
            case "fenced":
                return send(writer, 200, completion(self.options["reply"]))
            case "refusal" if request.get("stream"):
                return streamed(writer, [event({"refusal": "I cannot help with that."}), event({}, "stop")])
            case "refusal":
                return send(writer, 200, completion("", refusal="I cannot help with that."))
            case "content_filter":
                return send(writer, 200, completion("", finish="content_filter"))
            case "unparseable":
                return send(writer, 200, completion("Well, that depends."))
            case "empty":
                return send(writer, 200, completion(""))
            case "ok" if request.get("max_tokens") == 1:
                return send(writer, 200, verdict(True))
            case "ok":
                return send(writer, 200, completion(shaped(request, self.options["reply"])))
            case "yes" | "no":
                return send(writer, 200, verdict(behaviour == "yes"))
            case "judge":
                last = request["messages"][-1]["content"]
                return send(writer, 200, verdict(any(text in last for text in self.options["truth"])))
            case "words":
                return send(writer, 200, agreeing(request))
            case "agent":
                return acted(writer, request, self.chosen(request), "Let me see. ")
            case "unknown_tool":
                return acted(writer, request, ("launch_rockets", {"at": "once"}))
            case "malformed":
                return acted(writer, request, (offered(request)[0], "{'latent': "))
            case "silent":
                return acted(writer, request, None)
            case "stream_dies":
                return streamed(writer, [event({"content": "Let me"})], whole=False)
        raise ValueError(f"unknown behaviour {behaviour!r}")


def send(writer: asyncio.StreamWriter, status: int, text: str, more: str = "", kind: str = "application/json") -> bool:
    data = text.encode()
    head = f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: {kind}\r\n{more}content-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return True


def failure(message: str, code: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "stub_error", "code": code}})


def completion(content: str, refusal: str | None = None, finish: str = "stop", logprobs: Any = None) -> str:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    return json.dumps(
        {
            "id": "stub",
            "object": "chat.completion",
            "created": 0,
            "model": "stub",
            "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    )


def verdict(positive: bool) -> str:
    """A judge's first token, sure of itself: log-probability -0.05 against -3."""
    first, second = ("1", "0") if positive else ("0", "1")
    candidates = [{"token": first, "logprob": -0.05, "bytes": None}, {"token": second, "logprob": -3.0, "bytes": None}]
    return completion(first, finish="length", logprobs={"content": [{**candidates[0], "top_logprobs": candidates}]})


def shaped(request: dict[str, Any], reply: str) -> str:
    """`reply` in the form of the request's JSON schema, when it has one."""
    form = request.get("response_format", {}).get("json_schema", {}).get("schema")
    return reply if form is None else json.dumps(filled(form, form.get("$defs", {}), reply))


def filled(form: dict[str, Any], definitions: dict[str, Any], reply: str) -> Any:
    if "$ref" in form:
        return filled(definitions[form["$ref"].rpartition("/")[2]], definitions, reply)
    if "anyOf" in form:
        return filled(form["anyOf"][0], definitions, reply)
    if "enum" in form:
        return form["enum"][0]
    match form["type"]:
        case "object":
            return {name: filled(inner, definitions, reply) for name, inner in form["properties"].items()}
        case "array":
            return [filled(form["items"], definitions, reply)] * form.get("minItems", 1)
        case "string":
            return reply
        case "boolean":
            return True
        case _:
            return 1


def agreeing(request: dict[str, Any]) -> str:
    """Explains by the activating tokens; judges a snippet by whether it holds a word of the explanation."""
    last = request["messages"][-1]["content"]
    if request.get("max_tokens") != 1:
        named = re.search(r"Activating tokens: (.*)", last)
        return completion(shaped(request, f"the tokens {named[1] if named else ''}"[:100]))
    everything = "\n".join(message["content"] for message in request["messages"])
    explanation = re.findall(r"(?im)^explanation: (.*)", everything)[-1]
    snippet = re.findall(r"(?im)^snippet: (.*)", last)[-1].lower()
    words = set(re.findall(r"\w+", explanation.lower())) - {"the", "tokens"}
    return verdict(bool(words & set(re.findall(r"\w+", snippet))))


def offered(request: dict[str, Any]) -> list[str]:
    """The names of the acts that a request offers, as native tools or in its JSON schema."""
    if "tools" in request:
        return [tool["function"]["name"] for tool in request["tools"]]
    form = request["response_format"]["json_schema"]["schema"]["properties"]["act"]
    return [choice["properties"]["do"]["const"] for choice in form["anyOf"]]


def acted(writer: asyncio.StreamWriter, request: dict[str, Any], act: tuple[str, Any] | None, words: str = "") -> bool:
    """One act (None: nothing at all) in the form that the request asks for; a string of arguments goes as it is."""
    name, given = act or ("", {})
    arguments = given if isinstance(given, str) else json.dumps(given)
    if "tools" not in request:
        whole = f'{{"act": {{"do": {json.dumps(name)}, "with": {arguments}}}}}'
        return send(writer, 200, completion(whole if act else ""))
    events = [event({"content": word + " "}) for word in words.split()] if act else [event({"content": ""})]
    if act:
        start = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(event({"tool_calls": [start]}))
        for at in range(0, len(arguments), 7):
            part = {"index": 0, "function": {"arguments": arguments[at : at + 7]}}
            events.append(event({"tool_calls": [part]}))
    events.append(event({}, "tool_calls" if act else "stop"))
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    events += [f"data: {json.dumps({'id': 'stub', 'choices': [], 'usage': usage})}\n\n", "data: [DONE]\n\n"]
    return streamed(writer, events)


def streamed(writer: asyncio.StreamWriter, events: list[str], whole: bool = True) -> bool:
    """A reply in pieces; when it is not whole, the connection breaks in its midst."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    writer.write(head.encode() + b"".join(chunked(each) for each in events) + (b"0\r\n\r\n" if whole else b""))
    return whole


def event(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "stub", "object": "chat.completion.chunk", "created": 0, "model": "stub", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


def chunked(text: str) -> bytes:
    data = text.encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(options: dict[str, Any]) -> None:
    server = await asyncio.start_server(Server(options).connection, "127.0.0.1", 0, limit=1 << 22)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    async with server:
        await server.serve_forever()


def end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent is gone
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("options", nargs="?", default="{}", help="JSON object of options")
    asyncio.run(serve(json.loads(parser.parse_args().options)))
