"""What an LLM may do, offered and read in both modes."""

from typing import Any

import pytest
from pydantic import BaseModel

from prompts.actions import Act, Action, as_one_object, as_tools, bounded, inlined
from prompts.ask import LLM, Choice
from prompts.budget import Budget
from prompts.errors import BudgetSpent, LLMError, Unparseable
from prompts.providers import Role
from store.types import LLMCall
from tests.prompts.conftest import Door, question


class Inner(BaseModel):
    """A part."""

    title: str
    description: str = ""


class Outer(BaseModel):
    inner: Inner
    many: list[Inner] = []
    why: str | None = None


LOOK = Action("look", "Looks.", Outer.model_json_schema())
STOP = Action("stop", "Stops.", {"type": "object", "properties": {}})
ACTS = {"look": {"inner": {"title": 'a "quoted" é', "description": ""}, "many": [], "why": None}}


async def choose(llm: LLM, heard: list[str] | None = None) -> Choice:
    listener = (heard if heard is not None else []).append
    return await llm.act(Role.AGENT, "judge_detection", question(), [STOP, LOOK], listener)


@pytest.mark.parametrize("native", [True, False])
def test_an_act_comes_back_as_it_was_sent(door: Door, native: bool) -> None:
    door.stub.configure(behaviour="agent", acts=ACTS)
    heard: list[str] = []
    choice = door.run(lambda llm: choose(llm, heard), tool_calls=native)
    assert choice.acts == (Act("look", ACTS["look"]),)
    assert "".join(heard) == ("Let me see. " if native else "")
    call = door.ledger.get(LLMCall, choice.call_id)
    assert call is not None
    assert (call.prompt_tokens, call.completion_tokens) == (100, 10)
    assert (call.tool_calls is not None) == native
    again = door.run(lambda llm: choose(llm, heard), tool_calls=native)
    assert again.acts == choice.acts
    assert door.stub.stats()["requests"] == 1
    sent = door.stub.stats()["last"]
    assert ("tools" in sent, sent.get("stream", False)) == (native, native)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("behaviour", "said"),
    [("silent", "the reply"), ("malformed", "is not JSON"), ("unparseable", "the reply")],
)
def test_a_reply_that_does_nothing_is_recorded(door: Door, native: bool, behaviour: str, said: str) -> None:
    if native and behaviour == "unparseable":
        behaviour = "silent"
    door.stub.configure(behaviour=behaviour)
    with pytest.raises(Unparseable, match=said) as failure:
        door.run(choose, tool_calls=native)
    assert door.ledger.get(LLMCall, str(failure.value.call_id)) is not None


def test_a_stream_that_breaks_off_is_tried_again(door: Door) -> None:
    door.stub.configure(behaviour="agent", acts=ACTS)
    door.stub.script("stream_dies")
    assert door.run(choose, tool_calls=True).acts[0].name == "look"
    door.stub.configure(behaviour="stream_dies")
    with pytest.raises(LLMError, match=r"broke.*tried 3 times"):
        door.run(lambda llm: llm.act(Role.AGENT, "judge_detection", question(1), [STOP], print), tool_calls=True)


def test_tokens_are_limited(door: Door) -> None:
    door.stub.configure(behaviour="agent", acts=ACTS)

    async def twice(llm: LLM) -> None:
        await choose(llm)
        await llm.act(Role.AGENT, "judge_detection", question(1), [LOOK], print)

    with pytest.raises(BudgetSpent) as spent:
        door.run(twice, budget=Budget(max_tokens=100))
    assert spent.value.limit == "tokens"
    assert door.stub.stats()["requests"] == 1


def test_records_answer_without_an_endpoint(door: Door) -> None:
    door.stub.configure(behaviour="agent", acts=ACTS)
    first = door.run(choose, tool_calls=True)
    door.cache.unlink()
    again = door.run(choose, tool_calls=True, from_records=True)
    assert again == first
    with pytest.raises(LLMError, match="No recorded reply"):
        door.run(choose, tool_calls=False, from_records=True)
    assert door.stub.stats()["requests"] == 1


def test_schemas_are_whole_and_bounded() -> None:
    plain = inlined(LOOK.schema)
    assert "$defs" not in plain
    inner = plain["properties"]["inner"]
    assert set(inner["properties"]) == {"title", "description"}
    assert plain["properties"]["many"]["items"] == inner

    def strings(part: Any) -> list[dict[str, Any]]:
        if isinstance(part, list):
            return [found for each in part for found in strings(each)]
        if not isinstance(part, dict):
            return []
        own = [part] if part.get("type") == "string" else []
        return own + [found for each in part.values() for found in strings(each)]

    tight = bounded(plain)
    assert len(strings(tight)) == 5
    assert all("maxLength" in string for string in strings(tight))
    assert tight["required"] == ["inner", "many", "why"]
    assert tight["properties"]["many"]["maxItems"] > 0
    assert [tool["function"]["name"] for tool in as_tools([STOP, LOOK])["tools"]] == ["stop", "look"]
    choices = as_one_object([STOP, LOOK])["response_format"]["json_schema"]["schema"]["properties"]["act"]["anyOf"]
    assert [choice["properties"]["do"] for choice in choices] == [{"const": "stop"}, {"const": "look"}]
