"""The conversation, driven by keys: it streams, stops, goes on, opens, completes, and leaves."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from agent.chat import Chat
from agent.commands.chat import NO_TERMINAL, prepare
from agent.conversation.completion import ChatCompleter, Known
from agent.conversation.slash import COMMANDS
from agent.inquiry.events import TextDelta
from agent.inquiry.limits import Limits
from agent.session import open_session
from agent.settings import load
from store.errors import UserError
from tests.agent.conftest import Commands
from tests.agent.planted_cli import planted_text
from tests.agent.script import APPROVAL, E2, OBSERVED, TESTED, Script

CTRL_C, CTRL_D, CTRL_O, ENTER = "\x03", "\x04", "\x0f", "\r"
PATIENCE_S = 20.0


@dataclass
class Person:
    """Someone at a terminal of 80 columns: types, and reads what is printed."""

    keys: PipeInput
    screen: StringIO
    chat: Chat
    sitting: asyncio.Task[None]

    def type(self, text: str) -> None:
        self.keys.send_text(text)

    async def see(self, words: str) -> None:
        """Waits until the words are printed."""
        await self.until(lambda: words in self.screen.getvalue(), words)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while not holds():
            assert asyncio.get_running_loop().time() < end, f"{what!r} never came:\n{self.screen.getvalue()}"
            assert not self.sitting.done() or holds(), f"the conversation ended before {what!r}"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def at_the_terminal(script: Any, thread: str = "t") -> AsyncIterator[Person]:
    """A conversation about the planted world; it must end by itself when the body has."""
    screen = StringIO()
    console = Console(file=screen, width=80, highlight=False)
    with (
        create_pipe_input() as keys,
        create_app_session(input=keys, output=DummyOutput()),
        open_session(load()) as session,
    ):
        chat = Chat(session, thread, Limits(), console, lambda question: None, script)
        sitting = asyncio.create_task(chat.talk())
        person = Person(keys, screen, chat, sitting)
        await person.see("/help lists")
        yield person
        await asyncio.wait_for(sitting, PATIENCE_S)


def test_a_question_is_answered_and_its_evidence_opens(world: Commands) -> None:
    async def talk() -> None:
        script = Script(*OBSERVED, *TESTED)
        async with at_the_terminal(script) as person:
            person.type("what does latent 6 do?" + ENTER)
            await person.see("Conclusion")
            person.type(CTRL_O)
            await person.see("to see what it writes")
            person.type(CTRL_O)
            await person.see("to see what it fires on")
            person.type("/quit" + ENTER)
        assert script.asked == [("what does latent 6 do?", "t", None)]

    asyncio.run(talk())


def test_ctrl_c_stops_the_step_and_enter_goes_on(world: Commands) -> None:
    async def talk() -> None:
        script = Script(*OBSERVED, *TESTED, pause=len(OBSERVED) + 5)
        async with at_the_terminal(script) as person:
            person.type("why?" + ENTER)
            await script.paused.wait()
            person.type(CTRL_C)
            await person.see("dose_response was stopped")
            person.type(ENTER)
            await person.see("Conclusion")
            person.type(CTRL_D)
        assert [question for question, _, _ in script.asked] == ["why?", None]

    asyncio.run(talk())


def test_a_second_ctrl_c_leaves(world: Commands) -> None:
    async def talk() -> None:
        script = Script(*OBSERVED, pause=2)
        async with at_the_terminal(script) as person:
            person.type("why?" + ENTER)
            await script.paused.wait()
            person.type(CTRL_C + CTRL_C)
        async with at_the_terminal(Script()) as person:
            person.type("half a line" + CTRL_C)
            await person.until(lambda: person.chat.typed == "", "an empty line")
            person.type(CTRL_C)
            await person.see("Ctrl-C again leaves")
            person.type(CTRL_C)

    asyncio.run(talk())


def test_a_pasted_text_of_several_lines_is_one_question(world: Commands) -> None:
    async def talk() -> None:
        script = Script(*TESTED)
        async with at_the_terminal(script) as person:
            person.type("\x1b[200~one\ntwo\x1b[201~\x1b\rthree" + ENTER)
            await person.see("Conclusion")
            person.type(CTRL_D)
        assert script.asked[0][0] == "one\ntwo\nthree"

    asyncio.run(talk())


@pytest.mark.parametrize(("answer", "allowed"), [("/approve", True), ("/approve no", False)])
def test_an_approval_is_asked_for_and_given(answer: str, allowed: bool, world: Commands) -> None:
    async def talk() -> None:
        script = Script(*OBSERVED, APPROVAL)
        async with at_the_terminal(script) as person:
            person.type("how strong?" + ENTER)
            await person.see("May this run?")
            await person.until(lambda: not person.chat.running, "the end of the run")
            person.type(answer + ENTER)
            await person.until(lambda: len(script.asked) == 2, "the answer")
            person.type("/quit" + ENTER)
        assert script.asked[1] == (None, "t", allowed)

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("/nothing", "There is no command /nothing: /help lists them."),
        ("/approve", "Nothing waits for an approval."),
        ("/evidence zz", "'zz' is not an id"),
        ("/threads zz", "There is no thread 'zz'"),
        ("/hypotheses", "This thread has no hypotheses yet"),
        ("/replay", "Name what to replay"),
        ("/replay zz", "'zz' is not an id"),
        ("/export report.doc", "Name a file that ends in .md or .html"),
        ("/export report.md", "There is no thread"),
        ("/export ~nobody-here/report.md", "in the home of a user whom this machine does not know"),
        ("/model gpt", "The embedded LLM has one model"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(typed: str, sentence: str, world: Commands) -> None:
    async def talk() -> None:
        async with at_the_terminal(Script()) as person:
            person.type(typed + ENTER)
            await person.see(sentence)
            person.type(CTRL_D)

    asyncio.run(talk())


def test_nothing_is_prepared_for_a_question_that_cannot_be_investigated(world: Commands) -> None:
    shutil.rmtree(world.workspace)
    with open_session(load({"corpus": planted_text(world.folder)})) as session:
        for question, said in (("why is the sky blue?", "names no latents"), ("what does latent 99 do?", "Latent 99")):
            with pytest.raises(UserError, match=said):
                prepare(session, question)
    assert not world.workspace.exists()


def test_every_command_without_an_argument_shows_something(world: Commands) -> None:
    async def talk() -> None:
        async with at_the_terminal(Script()) as person:
            for name in ("/help", "/threads", "/evidence", "/cost", "/tools", "/model"):
                person.screen.truncate(0)
                person.type(name + ENTER)
                await person.until(lambda: bool(person.screen.getvalue().strip()), name)
            person.type(CTRL_D)

    asyncio.run(talk())


def test_a_failed_run_is_a_sentence_and_a_bug_is_loud(world: Commands) -> None:
    async def fails(*_: Any) -> AsyncIterator[Any]:
        yield TextDelta(text="so far")
        raise UserError("The endpoint is gone: start it again.")

    async def breaks(*_: Any) -> AsyncIterator[Any]:
        yield TextDelta(text="so far")
        raise ZeroDivisionError

    async def talk() -> None:
        async with at_the_terminal(fails) as person:
            person.type("why?" + ENTER)
            await person.see("so far")
            await person.see("The endpoint is gone: start it again.")
            assert person.chat.unfinished
            person.type(CTRL_D)
        with pytest.raises(ZeroDivisionError):
            async with at_the_terminal(breaks) as person:
                person.type("why?" + ENTER)

    asyncio.run(talk())


def test_history_is_kept_between_sittings(world: Commands) -> None:
    async def talk() -> None:
        async with at_the_terminal(Script(*TESTED)) as person:
            person.type("first question" + ENTER)
            await person.see("Conclusion")
            person.type(CTRL_D)
        script = Script(*TESTED)
        async with at_the_terminal(script) as person:
            await asyncio.sleep(0.2)  # history is read beside the prompt
            person.type("\x1b[A" + ENTER)
            await person.see("Conclusion")
            person.type(CTRL_D)
        assert script.asked[0][0] == "first question"

    asyncio.run(talk())


def test_completion_of_commands_ids_and_latents() -> None:
    completer = ChatCompleter(
        {name: command.help for name, command in COMMANDS.items()},
        lambda command: [Known(E2, "to see")] if command == "/evidence" else [],
        lambda: [
            Known("world/planted/6", "banks"),
            Known("world/planted/61", "evil \x1b[31m"),
            Known("world/planted/7", ""),
        ],
    )

    def offered(text: str) -> list[str]:
        found = completer.get_completions(Document(text), CompleteEvent())
        assert all("\x1b" not in c.display_meta_text for c in found)
        return [c.text for c in completer.get_completions(Document(text), CompleteEvent())]

    assert offered("/e") == [name for name in COMMANDS if name.startswith("/e")]
    assert offered("/evidence ") == [E2]
    assert offered("what does 6") == ["world/planted/6", "world/planted/61"]
    assert offered("what does world/planted/7") == ["world/planted/7"]
    assert offered("what ") == []


def test_without_a_terminal_it_says_to_use_ask(run: Commands) -> None:
    assert run("chat").sentence == NO_TERMINAL
    assert "glossator ask" in NO_TERMINAL
