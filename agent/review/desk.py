"""The reviewer's desk: the scoreboard a page at a time, a card at a time, one-letter commands on the terminal."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from agent.batch.labels import Label, Sort, read, select
from agent.batch.report import scoreboard
from agent.review.cards import card, decide
from store.errors import UserError
from store.ledger import Ledger
from store.types import Explanation, Verdict

PAGE = 15
BOARD_HELP = "number: card   n, p: page   /words: filter   u: unreviewed only   s ORDER: sort   q: quit"
SORT_HELP = f"ORDER is one of {', '.join(Sort)}"
CARD_HELP = "a/r [note]: accept, reject   w text: write a better one   enter: next   b: board   q: quit"


class Desk:
    """One sitting. `ask` reads a line for a prompt; EOFError or "q" ends the sitting."""

    def __init__(
        self, ledger: Ledger, reviewer: str, filters: dict[str, Any], console: Console, ask: Callable[[str], str]
    ) -> None:
        self.ledger = ledger
        self.reviewer = reviewer
        self.console = console
        self.ask = ask
        self.filters = dict(filters)
        self.page = 0
        self.decided = 0

    def sit(self) -> int:
        """Runs until the reviewer leaves; the number of verdicts given."""
        try:
            while self._board():
                pass
        except EOFError:
            pass
        return self.decided

    def _labels(self) -> list[Label]:
        return select(read(self.ledger), **self.filters)

    def _board(self) -> bool:
        found = self._labels()
        pages = max(1, -(-len(found) // PAGE))
        self.page = min(max(self.page, 0), pages - 1)
        start = self.page * PAGE
        if found:
            self.console.print(scoreboard(found[start : start + PAGE], self.console, start + 1))
        else:
            self.console.print(Text("Nothing matches; / alone shows all again.", "dim"))
        filters = [f"{name} {value}" for name, value in self.filters.items() if value is not None and value != ""]
        shown = f"{len(found):,} explanations, page {self.page + 1} of {pages}; {', '.join(filters)}"
        self.console.print(Text(f"{shown}\n{BOARD_HELP}\n{SORT_HELP}", "dim"))
        match self.ask("> ").strip().split(maxsplit=1):
            case ["q"]:
                return False
            case [] | ["n"]:
                self.page += 1
            case ["p"]:
                self.page -= 1
            case ["u"]:
                self.filters["verdict"] = None if self.filters["verdict"] == "none" else "none"
            case ["s", key] if key in Sort.__members__.values():
                self.filters["sort"] = Sort(key)
            case [first, *rest] if first.startswith("/"):
                self.filters["words"], self.page = " ".join([first[1:], *rest]).strip(), 0
            case [number] if number.isdigit() and 1 <= int(number) <= len(found):
                return self._cards(found, int(number) - 1)
            case _:
                self.console.print(Text("That is none of the commands below.", "yellow"))
        return True

    def _cards(self, found: list[Label], at: int) -> bool:
        while at < len(found):
            explanation = self.ledger.get(Explanation, found[at].id)
            assert explanation is not None, "rows never go away"
            self.console.print(card(found[at], explanation, self.console))
            self.console.print(Text(f"{at + 1} of {len(found)}   {CARD_HELP}", "dim"))
            command, _, rest = self.ask("> ").strip().partition(" ")
            match command:
                case "q":
                    return False
                case "b":
                    return True
                case "":
                    at += 1
                case "a" | "r" | "w":
                    verdict = {"a": Verdict.ACCEPT, "r": Verdict.REJECT, "w": Verdict.REWRITE}[command]
                    at += self._decide(found[at].id, verdict, rest.strip())
                case _:
                    self.console.print(Text("That is none of the commands below.", "yellow"))
        return True

    def _decide(self, id: str, verdict: Verdict, rest: str) -> bool:
        note, text = ("", rest) if verdict is Verdict.REWRITE else (rest, None)
        try:
            decide(self.ledger, id, verdict, self.reviewer, note, text)
        except UserError as error:
            self.console.print(Text(str(error), "yellow"))
            return False
        self.decided += 1
        return True
