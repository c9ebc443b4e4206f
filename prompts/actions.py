"""What an LLM may do next: offered as native tools or as one JSON object, read back as the same `Act`s."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prompts.errors import Unparseable
from prompts.reply import FENCED, refuse_declined
from store.types import LLMCall

LONGEST_TEXT, MOST_ITEMS = 120, 3  # bounds for a small model, which would write on and on


@dataclass(frozen=True)
class Action:
    """One thing an LLM may do. `schema` is the JSON schema of its arguments, an object."""

    name: str
    doc: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Act:
    """What an LLM chose to do. Its name may be none that was offered, its arguments may not fit."""

    name: str
    arguments: dict[str, Any]


def as_tools(actions: Sequence[Action]) -> dict[str, Any]:
    """Request parameters that offer `actions` as native tools, one of which must be called."""
    return {
        "tools": [
            {"type": "function", "function": {"name": a.name, "description": a.doc, "parameters": inlined(a.schema)}}
            for a in actions
        ],
        "tool_choice": "required",
    }


def as_one_object(actions: Sequence[Action]) -> dict[str, Any]:
    """Request parameters that ask for one object, `{"act": {"do": name, "with": arguments}}`, any of `actions`."""
    choices = [
        {
            "type": "object",
            "properties": {"do": {"const": a.name}, "with": bounded(inlined(a.schema))},
            "required": ["do", "with"],
            "additionalProperties": False,
        }
        for a in actions
    ]
    schema = {"type": "object", "properties": {"act": {"anyOf": choices}}, "required": ["act"]}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "act", "schema": schema}}}


def read_acts(call: LLMCall) -> tuple[Act, ...]:
    """What the reply does, at least one thing. Raises Refused or Unparseable."""
    if call.tool_calls:
        return tuple(Act(each["name"], _object(each["arguments"], each["name"])) for each in call.tool_calls)
    refuse_declined(call)
    if "tools" in call.parameters:
        raise Unparseable("the reply calls none of the tools")
    fenced = FENCED.fullmatch(call.reply)
    act = _object(fenced[1] if fenced else call.reply, "the reply").get("act")
    if not isinstance(act, dict) or not isinstance(act.get("do"), str) or not isinstance(act.get("with"), dict):
        raise Unparseable('the reply is not of the form {"act": {"do": ..., "with": {...}}}')
    return (Act(act["do"], act["with"]),)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        raise Unparseable(f"{what}: {text[:80]!r} is not JSON") from None
    if not isinstance(found, dict):
        raise Unparseable(f"{what}: {text[:80]!r} is not a JSON object")
    return found


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with every `$ref` replaced by what it names, and without titles."""
    definitions = schema.get("$defs", {})

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return walk(definitions[part["$ref"].rpartition("/")[2]])
        kept = {n: i for n, i in part.items() if n != "$defs" and not (n == "title" and isinstance(i, str))}
        return {
            name: {n: walk(i) for n, i in inner.items()} if name == "properties" else walk(inner)
            for name, inner in kept.items()
        }

    found: dict[str, Any] = walk(schema)
    return found


def anchored(pattern: str) -> bool:
    """Whether it says all of the string, its length too: llama.cpp takes no other patterns."""
    return pattern.startswith("^") and pattern.endswith("$")


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with a bound on the length of every string and list, and with every field required: what a small model
    may leave out, it leaves out."""

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        kept = {
            name: {n: walk(i) for n, i in inner.items()} if name == "properties" else walk(inner)
            for name, inner in part.items()
            if name not in ("description", "default") and not (name == "pattern" and not anchored(inner))
        }
        if kept.get("type") == "string" and not kept.keys() & {"enum", "const", "pattern"}:
            kept["maxLength"] = min(int(part.get("maxLength", LONGEST_TEXT)), LONGEST_TEXT)
        if kept.get("type") == "array":
            most = max(
                MOST_ITEMS, len(part.get("items", {}).get("enum", ()))
            )  # a choice among what is named may be all
            kept["maxItems"] = min(int(part.get("maxItems", most)), most)
        if "properties" in kept:
            kept["required"] = list(kept["properties"])
        return kept

    found: dict[str, Any] = walk(schema)
    return found
