"""The conversation on a terminal: a prompt that stays while an investigation runs, and all that happens above it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from prompt_toolkit import ANSI, PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console, RenderableType
from rich.text import Text

from agent.conversation.completion import ChatCompleter, Known
from agent.conversation.slash import COMMANDS, ids, known_latents
from agent.conversation.transcript import Transcript
from agent.inquiry.events import Event
from agent.inquiry.history import ending, threads
from agent.inquiry.limits import Limits
from agent.screen.panels import call_panel, one_line
from agent.screen.show import clean, plain
from agent.session import Session
from store.disk import make_folder
from store.errors import UserError
from store.types import Hypothesis

PROMPT = "\x1b[1;36m>\x1b[0m "
REDRAWS_PER_S = 8  # while something runs
MENU_ROWS = 6  # kept free below the prompt while a command is typed
HISTORY = "chat-history"

Investigate = Callable[[Session, str | None, str, Limits, Any], AsyncGenerator[Event, None]]


class Chat:
    """One sitting on `thread`; it ends when the person leaves, and the thread can be taken up again."""

    def __init__(
        self,
        session: Session,
        thread: str,
        limits: Limits,
        console: Console,
        prepare: Callable[[str | None], None],
        investigate: Investigate | None = None,
    ) -> None:
        self.session = session
        self.limits = limits
        self.console = console
        self.leaving = False
        self._prepare = prepare
        self._investigate = investigate
        self._task: asyncio.Task[None] | None = None
        self._unheard: str | None = None  # a question that was stopped before anything came of it
        self._named: dict[str, Sequence[Known]] = {}  # for completion
        self._warned = False  # one Ctrl-C has been pressed: the next one leaves
        self._opened = 0  # tool calls opened by Ctrl-O, counted from the last one
        self.take_up(thread)

    def take_up(self, thread: str) -> None:
        """Turns to another thread. UserError while something runs."""
        self.need_idle()
        self.thread, self.transcript = thread, Transcript(self.console)
        self.unfinished: bool  # an investigation of the thread was stopped, and can go on
        asked = threads(self.session.ledger).get(thread)
        self.unfinished = asked is not None and ending(self.session.ledger, asked) is None
        self._asked = asked.question if asked else ""
        if asked is not None:
            self.transcript.name(row.id for row in self.session.ledger.find(Hypothesis, investigation=asked.id))

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def typed(self) -> str:
        """What stands on the line that is not sent yet."""
        return self._prompt.default_buffer.text

    async def talk(self) -> None:
        """Reads and answers until the person leaves."""
        make_folder(self.session.workspace)
        self._prompt = self._made_prompt()
        await self.print(self.greeting())
        try:
            while not self.leaving:
                with patch_stdout():
                    try:
                        line = await self._prompt.prompt_async()
                    except EOFError:
                        break
                self._warned, self._opened = False, 0
                self._named.clear()
                await self._hear(line.strip())
        finally:
            await self._stop()

    async def print(self, *renderables: RenderableType) -> None:
        """Prints above the prompt."""

        def render(console: Console) -> None:
            for each in renderables:
                console.print(each)

        await self.draw(render)

    async def draw(self, render: Callable[[Console], object]) -> None:
        """Lets `render` print above the prompt."""
        await run_in_terminal(lambda: render(self.console))

    async def ask(self, question: str | None, answer: bool | None = None) -> None:
        """Investigates `question`; None goes on with what was stopped, or waits for an `answer` to its approval."""
        self.need_idle()
        self._prepare(question)
        self.work(self._follow(question, answer))

    def need_idle(self) -> None:
        """UserError while something runs."""
        if self.running:
            raise UserError("Something is running: wait for it, or stop it with Ctrl-C.")

    def work(self, job: Coroutine[Any, Any, None]) -> None:
        """Begins `job` beside the prompt; Ctrl-C stops it."""
        self._task = asyncio.create_task(self._attended(job))
        self._task.add_done_callback(self._ended)

    async def _hear(self, line: str) -> None:
        try:
            if line.startswith("/"):
                name, _, argument = line.partition(" ")
                if name not in COMMANDS:
                    raise UserError(f"There is no command {name}: /help lists them.")
                await COMMANDS[name].run(self, argument.strip())
            elif line:
                await self.ask(line)
            elif self.unfinished and not self.running:
                await self.ask(self._unheard)
        except UserError as error:
            await self.print(complaint(error))

    async def _follow(self, question: str | None, answer: bool | None) -> None:
        self.unfinished, self.transcript.waiting, self._unheard = True, None, question
        if question is not None:
            self._asked = question
            self.transcript.begin()
        self.transcript.tick()
        from agent.inquiry.investigate import investigate  # and with it torch

        begin: Investigate = self._investigate or investigate
        events = begin(self.session, question, self.thread, self.limits, answer)
        async with aclosing(events):
            async for event in events:
                self._unheard = None
                await self.print(*self.transcript.take(event))
                self.unfinished = not self.transcript.concluded and self.transcript.waiting is None
        if self.unfinished:
            raise UserError("The run ended without a conclusion: Enter goes on with it.")

    async def _attended(self, job: Coroutine[Any, Any, None]) -> None:
        redrawing, said = asyncio.create_task(self._redraw()), []
        try:
            await job
        except asyncio.CancelledError:
            if not self.transcript.concluded:
                said.append(Text("Stopped." + (" Enter goes on with it." if self.unfinished else ""), "yellow"))
        except UserError as error:
            said.append(complaint(error))
        finally:
            redrawing.cancel()
            await self.print(*self.transcript.stopped(), *said)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Takes the live lines away; a bug ends the conversation, with its traceback."""
        self._prompt.app.invalidate()
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._prompt.app.exit(exception=bug)

    async def _redraw(self) -> None:
        while True:
            self._prompt.app.invalidate()
            await asyncio.sleep(1 / REDRAWS_PER_S)

    async def _stop(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _made_prompt(self) -> PromptSession[str]:
        return PromptSession(
            self._message,
            history=FileHistory(str(self.session.workspace / HISTORY)),
            completer=ChatCompleter(
                {name: command.help for name, command in COMMANDS.items()},
                lambda command: self._known(command, lambda: ids(self, command)),
                lambda: self._known("latents", lambda: known_latents(self)),
            ),
            complete_while_typing=Condition(lambda: self.typed.startswith("/")),
            complete_in_thread=True,
            reserve_space_for_menu=MENU_ROWS,
            key_bindings=self._keys(),
        )

    def _known(self, what: str, look: Callable[[], Sequence[Known]]) -> Sequence[Known]:
        """What can be named, looked up once a line."""
        if what not in self._named:
            self._named[what] = look()
        return self._named[what]

    def greeting(self) -> Text:
        """Which thread this is, and how to go on."""
        last = f"“{one_line(self._asked)}” " if self._asked else ""
        state = f"{last}is unfinished: Enter goes on with it" if self.unfinished else "/help lists what can be typed"
        if last and not self.unfinished:
            state = f"last asked: {last}· {state}"
        what = f"{clean(self.session.settings.model)}, thread {clean(self.thread)}\n{state}"
        return Text.assemble(("glossator ", "bold"), (what, "dim"))

    def _message(self) -> ANSI:
        """What stands above the cursor: what streams, what runs, what was spent."""
        if self._prompt.app.is_done:
            return ANSI(PROMPT)
        told = self.transcript
        lines = [*told.live(), told.status(running=True)] if self.running else [told.status()] if told.spent else []
        with self.console.capture() as drawn:
            for line in filter(None, lines):
                self.console.print(line, soft_wrap=True)
        return ANSI(drawn.get() + PROMPT)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add(Keys.SIGINT)
        def interrupt(event: KeyPressEvent) -> None:
            """Stops what runs, or clears the line; a second one leaves."""
            if self._warned:
                event.app.exit(exception=EOFError)
            elif self.running and self._task is not None:
                self._warned = True
                self._task.cancel()
                said = Text("Stopping; a reply that is paid for already is waited for.", "dim")
                event.app.create_background_task(self.print(said))
            elif self.typed:
                event.current_buffer.reset()
            else:
                self._warned = True
                event.app.create_background_task(self.print(Text("Ctrl-C again leaves.", "dim")))

        @keys.add("c-o")
        def open_call(event: KeyPressEvent) -> None:
            """Opens the last tool call; again, the one before it."""
            calls = self.transcript.calls
            if self._opened < len(calls):
                self._opened += 1
                panel = call_panel(calls[-self._opened], self.console)
                event.app.create_background_task(self.print(panel))

        @keys.add("escape", "enter")
        def newline(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        return keys


def complaint(error: UserError) -> Text:
    """What a person can put right, in one sentence."""
    return Text(plain(str(error)).plain, "yellow")
