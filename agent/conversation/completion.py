"""What Tab offers in the conversation: commands, then the ids that a command takes, and latents by index or name."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from agent.screen.show import clean

NOTE_CELLS = 60


class Known(NamedTuple):
    """Something that can be named: its spelling, and a few words on it."""

    name: str
    note: str


class ChatCompleter(Completer):
    """`commands` by name with what they do; `ids` gives what a command's argument may be; `latents` what is known."""

    def __init__(
        self,
        commands: Mapping[str, str],
        ids: Callable[[str], Sequence[Known]],
        latents: Callable[[], Sequence[Known]],
    ) -> None:
        self._commands = commands
        self._ids = ids
        self._latents = latents

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        command, space, argument = text.partition(" ")
        if text.startswith("/") and not space:
            yield from _offered((Known(name, note) for name, note in self._commands.items()), text)
        elif text.startswith("/"):
            yield from _offered(self._ids(command), argument)
        else:
            word = document.get_word_before_cursor(WORD=True)
            if word:
                yield from _offered(self._latents(), word, index=True)


def _offered(known: Iterable[Known], typed: str, index: bool = False) -> Iterator[Completion]:
    for name, note in known:
        if name.startswith(typed) or (index and name.rpartition("/")[2].startswith(typed)):
            yield Completion(name, -len(typed), display=clean(name), display_meta=clean(note)[:NOTE_CELLS])
