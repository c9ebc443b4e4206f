"""Each way an endpoint can fail is one sentence, and leaves nothing half-written."""

import socket

import pytest

from prompts.ask import LLM, Answer
from prompts.errors import LLMError, Rejected, TooLong
from prompts.providers import Endpoint, Role, client
from tests.prompts.conftest import Door, question

KEY = "sk-verysecret-0123456789"

SENTENCES = {
    "401": "refused the API key (401); set a key that is valid for stub.",
    "404": "has no chat completions for model 'stub' (404: model not found); check both names.",
    "429": "answers 429, too many requests; lower the concurrency or the requests per minute (tried 3 times).",
    "429_long": "asks for a pause of 3600 s (429); run again after it.",
    "500": "answers with an error of its own (500: out of memory); check the server's log (tried 3 times).",
    "html": "answers with a web page, not with chat completions; check the base URL.",
    "invalid_json": "answers with invalid JSON",
    "not_a_completion": "answers with JSON that is not a chat completion",
    "half": "broke the connection before its reply was complete",
    "hang": "did not answer within 0.3 s; raise the timeout or lower the concurrency (tried 3 times).",
}


async def ask(llm: LLM) -> Answer:
    return await llm.ask(Role.EXPLAINER, "judge_detection", question())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prompts.transport.FIRST_WAIT_S", 0.01)


@pytest.mark.parametrize("behaviour", SENTENCES)
def test_a_bad_endpoint_is_one_sentence(door: Door, behaviour: str):
    door.stub.configure(behaviour=behaviour)
    with pytest.raises(LLMError) as failure:
        door.run(ask, api_key=KEY, timeout_s=0.3 if behaviour == "hang" else 5)
    said = str(failure.value)
    assert SENTENCES[behaviour] in said
    assert door.stub.base_url in said
    assert said.endswith(".")
    assert "\n" not in said
    assert KEY not in said
    assert door.calls() == []


def test_nobody_at_the_address(door: Door):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LLMError, match=rf"Nothing answers at http://127.0.0.1:{port}/v1 .*start the server"):
        door.run(ask, base_url=f"http://127.0.0.1:{port}/v1")


@pytest.mark.parametrize("base_url", ["localhost:8000", "ftp://example.org/v1", "http://"])
def test_an_address_that_is_none(base_url: str):
    with pytest.raises(LLMError, match="is not a base URL; write one like"):
        client(Endpoint(base_url=base_url, model="m"))


def test_openai_without_a_key():
    with pytest.raises(LLMError, match="needs an API key"):
        client(Endpoint(model="gpt-4o"))


def test_a_role_without_an_endpoint(door: Door):
    async def forgotten(llm: LLM) -> Answer:
        del llm.endpoints[Role.EXPLAINER]
        return await ask(llm)

    with pytest.raises(LLMError, match="No LLM is configured for the role 'explainer'"):
        door.run(forgotten)


@pytest.mark.parametrize("passing", ["429", "500", "half", "invalid_json"])
def test_what_passes_is_retried(door: Door, passing: str):
    door.stub.script(passing, passing)
    assert door.run(ask).text == "days of the week"
    assert door.stub.stats()["requests"] == 3
    assert len(door.calls()) == 1


@pytest.mark.parametrize("lasting", ["401", "404", "html", "429_long", "too_long"])
def test_what_does_not_pass_is_not_retried(door: Door, lasting: str):
    door.stub.configure(behaviour=lasting)
    with pytest.raises((LLMError, TooLong)):
        door.run(ask)
    assert door.stub.stats()["requests"] == 1


def test_retry_after_is_honoured_by_all_requests(door: Door):
    door.stub.script("429_short")

    async def then_another(llm: LLM) -> None:
        await llm.ask(Role.JUDGE, "judge_detection", question(1))
        await llm.ask(Role.JUDGE, "judge_detection", question(2))

    door.run(then_another)
    times = door.stub.stats()["times"]
    assert len(times) == 3
    assert times[1] - times[0] >= 1.0


def test_the_number_of_tries_is_limited(door: Door):
    door.stub.configure(behaviour="500")
    with pytest.raises(LLMError):
        door.run(ask, retries=4)
    assert door.stub.stats()["requests"] == 5


def test_a_prompt_that_is_too_long_fails_its_item_only(door: Door):
    door.stub.script("too_long")
    values = [question(0), question(1)]
    answers = door.run(lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", values), concurrency=1)
    assert isinstance(answers[0], TooLong)
    assert isinstance(answers[1], Answer)


def test_a_rejected_prompt_fails_its_item_only_once_others_were_answered(door: Door):
    door.stub.script("ok", "400")
    values = [question(i) for i in range(3)]
    answers = door.run(lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", values), concurrency=1)
    assert [type(answer) for answer in answers] == [Answer, Rejected, Answer]
    door.stub.reset()
    door.stub.configure(behaviour="400")
    with pytest.raises(LLMError, match="400"):
        door.run(lambda llm: llm.ask(Role.JUDGE, "judge_detection", question(5)))
    door.stub.script("ok")
    more = [question(i) for i in range(10, 40)]
    with pytest.raises(LLMError, match="400"):
        door.run(lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", more), concurrency=1)


def test_an_endpoint_error_ends_the_batch_and_keeps_what_was_paid(door: Door):
    door.stub.script("ok", "ok", "401")
    with pytest.raises(LLMError, match="401"):
        door.run(
            lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", [question(i) for i in range(50)]), concurrency=1
        )
    assert door.stub.stats()["requests"] <= 4
    door.stub.reset()
    again = door.run(lambda llm: llm.ask_many(Role.JUDGE, "judge_detection", [question(i) for i in range(3)]))
    assert [answer.cached for answer in again if isinstance(answer, Answer)] == [True, True, False]


def test_the_key_is_recorded_nowhere(door: Door, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
    caplog.set_level("DEBUG")
    door.stub.configure(reply=f"the key is {KEY}")
    door.stub.script("500")
    answer = door.run(ask, api_key=KEY)
    assert answer.text == "the key is ***"
    assert door.stub.stats()["keys"] == [KEY]
    assert all(KEY not in call.model_dump_json() for call in door.calls())
    assert KEY.encode() not in door.cache.read_bytes()
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())
    assert KEY not in repr(Endpoint(model="m", api_key=KEY))


def test_another_providers_key_is_never_sent(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    door.run(ask)
    assert door.stub.stats()["keys"] == ["none"]


def test_user_and_password_of_an_address_are_not_shown():
    endpoint = Endpoint(base_url="https://me:secret@example.org/v1/?token=abc", model="m")
    assert endpoint.url == "https://example.org/v1"
