"""A streamed chat completion, put together from its pieces."""

from collections.abc import Callable
from typing import Any

from openai import AsyncOpenAI

from prompts.reply import Completion


async def streamed(client: AsyncOpenAI, request: dict[str, Any], on_text: Callable[[str], None]) -> Completion:
    """The whole completion; `on_text` is told its words as they come.

    Raises what the client raises, and ValueError when the stream ends before its reply is complete.
    """
    text: list[str] = []
    refusal: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    finish: str | None = None
    usage: dict[str, Any] = {}
    stream: Any = await client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    async for chunk in stream:
        piece = chunk.model_dump()
        usage = piece.get("usage") or usage
        for choice in piece.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta") or {}
            if words := delta.get("content"):
                text.append(words)
                on_text(words)
            refusal.append(delta.get("refusal") or "")
            for number, part in enumerate(delta.get("tool_calls") or ()):
                call = calls.setdefault(part.get("index", number), {"name": "", "arguments": ""})
                function = part.get("function") or {}
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
    if finish is None:
        raise ValueError("the stream ended before its reply was complete")
    message = {
        "content": "".join(text),
        "refusal": "".join(refusal) or None,
        "tool_calls": [{"function": calls[index]} for index in sorted(calls)] or None,
    }
    return Completion.model_validate({"choices": [{"message": message, "finish_reason": finish}], "usage": usage})
