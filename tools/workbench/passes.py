"""How many patched prompts one forward pass takes: what memory holds, and what takes about two seconds."""

from collections import Counter
from collections.abc import Sequence

import torch

from tools.workbench.memory import exhausted, spendable
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject

PASS_TOKENS = 16  # tokens that take as long as beginning a pass, on a CPU
LEAST_TOKENS = 16 * PASS_TOKENS  # of a pass, however busy the machine: with fewer, beginning them costs too much
PASS_SECONDS = 2.0  # a forward pass, between which progress is told and the computation can be stopped


class Passes:
    """Passes over rows of `length` tokens, of which each is one of n prompts, from a layer and a position on.

    latents: whether a dictionary's latents are computed. notes: what had to be done otherwise, in sentences.
    """

    def __init__(self, subject: Subject, n: int, length: int) -> None:
        self.subject, self.n, self.length = subject, n, length
        self.latents = False
        self.notes: list[str] = []
        self._seconds = 0.0  # for a token in a layer
        self._most: int | None = None  # rows that memory suffices for, once it did not suffice for more

    def together(self, layer: int, starts: Sequence[int]) -> list[int]:
        """Which of the rows that wait go into the next pass. starts: the position that each begins at, in order.

        Rows that begin later join while what is computed for them in vain costs less than a pass of their own.
        """
        start = starts[0]
        fits = spendable(self.subject.device) // self._bytes(layer, start)
        if self._most is not None:
            fits = min(fits, self._most)
        if fits < self.n:
            self._say(f"Memory holds {max(1, fits)} prompts at once and not {self.n}: the passes are smaller.")
        quick = PASS_SECONDS / (self._seconds * self._work(layer, start)) if self._seconds else self.n
        quick = max(quick, LEAST_TOKENS / (self.length - start))
        rows = list(range(len(starts)))[: max(1, int(min(fits, quick)))]
        if self.subject.device.type == "cpu":
            counts = Counter(starts[: len(rows)])
            joining = {at for at, n in counts.items() if n * (at - start) <= PASS_TOKENS}
            rows = [row for row in rows if starts[row] in joining]
        return rows

    def took(self, seconds: float, rows: int, layer: int, start: int) -> None:
        """Notes how long a pass took."""
        self._seconds = seconds / (rows * self._work(layer, start))

    def fewer(self, rows: int, error: BaseException) -> None:
        """Halves the passes after an error that says that memory did not suffice; raises any other."""
        if not exhausted(error):
            raise error
        if rows == 1:
            raise ToolError("Memory does not suffice for one prompt: give shorter prompts.") from None
        self._most = rows // 2
        torch.cuda.empty_cache()
        self._say(f"Memory did not suffice for {rows} prompts at once: the passes are smaller.")

    def _work(self, layer: int, start: int) -> int:
        """Tokens times layers of a row; the unembedding counts as two layers."""
        return (self.length - start) * (self.subject.n_layers - layer + 2)

    def _bytes(self, layer: int, start: int) -> int:
        """Of a row: activations alive at once, logits in both precisions, keys and values."""
        cfg, width = self.subject.model.cfg, self.length - start
        size = torch.finfo(self.subject.dtype).bits // 8
        token = 12 * self.subject.d_model + 4 * int(cfg.d_mlp or 0) + 4 * self.length * int(cfg.n_heads)
        if self.latents:
            token += 4 * self.subject.dictionary.n_latents
        kept = 2 * start * self.subject.d_model * (self.subject.n_layers - layer)
        return size * (width * token + kept) + 40 * int(cfg.d_vocab)

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
