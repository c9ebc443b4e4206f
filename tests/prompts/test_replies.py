"""What is recorded of a call, and replies that are no answer: recorded, and raised for their item alone."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from prompts.ask import LLM, Answer
from prompts.errors import NoAnswer, Refused, Unparseable
from prompts.pricing import dollars
from prompts.providers import Endpoint, Role
from prompts.reply import Completion, response_format
from prompts.template import load
from tests.prompts.conftest import Door, question


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    verdict: Literal[0, 1]
    why: Annotated[str, Field(max_length=40)]


async def ask(llm: LLM) -> Answer:
    return await llm.ask(Role.EXPLAINER, "judge_detection", question(), schema=Verdict)


def test_a_structured_reply_is_validated(door: Door):
    door.stub.configure(reply="it names Monday")
    answer = door.run(ask)
    assert isinstance(answer.parsed, Verdict)
    assert answer.parsed.why == "it names Monday"
    sent = door.stub.stats()["last"]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"]["properties"]["why"]["maxLength"] == 40


@pytest.mark.parametrize(
    ("behaviour", "error", "said"),
    [
        ("unparseable", Unparseable, "does not fit Verdict (reply: Invalid JSON"),
        ("empty", Unparseable, "does not fit Verdict"),
        ("refusal", Refused, "declined to answer (refusal): 'I cannot help with that.'"),
        ("content_filter", Refused, "declined to answer (content_filter)"),
    ],
)
def test_no_answer_is_recorded_raised_and_not_paid_twice(door: Door, behaviour: str, error: type[NoAnswer], said: str):
    door.stub.configure(behaviour=behaviour)
    for _ in range(2):
        with pytest.raises(error) as failure:
            door.run(ask)
        assert said in str(failure.value)
    assert door.stub.stats()["requests"] == 1
    assert len(door.calls()) == 1


def test_a_string_longer_than_its_bound_is_no_answer(door: Door):
    door.stub.configure(reply="x" * 41)
    with pytest.raises(Unparseable, match=r"why: String should have at most 40 characters"):
        door.run(ask)


@pytest.mark.parametrize("words", ["I'm sorry, I can't assist with that.", "I\u2019m sorry, but no.", "As an AI, I"])
def test_a_refusal_in_plain_words_is_no_answer(door: Door, words: str):
    door.stub.configure(reply=words)
    with pytest.raises(Refused, match="declined to answer"):
        door.run(lambda llm: llm.ask(Role.EXPLAINER, "judge_detection", question()))


def test_an_empty_reply_without_a_schema_is_no_answer(door: Door):
    door.stub.configure(behaviour="empty")
    with pytest.raises(Unparseable, match="sent an empty reply"):
        door.run(lambda llm: llm.ask(Role.EXPLAINER, "judge_detection", question()))


def test_fenced_json_is_read(door: Door):
    door.stub.configure(reply='```json\n{"verdict": 1, "why": "yes"}\n```', behaviour="fenced")
    assert door.run(ask).parsed == Verdict(verdict=1, why="yes")


def test_in_a_batch_no_answer_stands_in_its_place(door: Door):
    door.stub.script("ok", "refusal", "ok")
    values = [question(i) for i in range(3)]
    answers = door.run(lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", values), concurrency=1)
    assert [type(answer) for answer in answers] == [Answer, Refused, Answer]
    assert len(door.calls()) == 3


def test_everything_about_a_call_is_recorded(door: Door):
    answer = door.run(lambda llm: llm.ask(Role.JUDGE, "judge_detection", question(), top_logprobs=5, max_tokens=1))
    (call,) = door.calls()
    template = load("judge_detection")
    assert call.id == answer.call_id
    assert (call.role, call.model, call.reply, call.finish_reason) == ("judge", "stub", "1", "length")
    assert (call.template, call.template_hash) == (template.id, template.hash)
    assert call.parameters == {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 5}
    assert list(call.messages) == template.render(**question())
    assert (call.prompt_tokens, call.completion_tokens) == (100, 10)
    assert call.usd is None
    assert 0 < call.seconds < 5
    assert call.logprobs == {"1": -0.05, "0": -3.0}


def test_an_unbounded_string_is_refused_before_it_is_paid_for():
    class Loose(BaseModel):
        why: str

    with pytest.raises(ValueError, match=r"the string Loose.*why has no max_length"):
        response_format(Loose)


def test_logprobs_that_json_cannot_carry_are_left_out():
    reply = Completion.model_validate_json(
        '{"choices": [{"message": {"content": "1"}, "logprobs": {"content": [{"top_logprobs": ['
        '{"token": "1", "logprob": -0.1}, {"token": "0", "logprob": -1e999}, {"token": "1", "logprob": -5}]}]}}]}'
    )
    assert reply.logprobs == {"1": -0.1}


def test_prices_known_given_and_unknown():
    known = dollars(Endpoint(model="gpt-4o-mini"), 1_000_000, 1_000_000)
    assert known is not None
    assert known > 0
    assert dollars(Endpoint(model="gpt-4o-mini", base_url="http://127.0.0.1:1/v1"), 10, 10) is None
    assert dollars(Endpoint(model="no-such-model"), 10, 10) is None
    assert dollars(Endpoint(model="mine", prices=(2.0, 8.0)), 1_000_000, 500_000) == pytest.approx(6.0)
