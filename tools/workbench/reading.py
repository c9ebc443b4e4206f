"""Running the subject on a text that a person or an agent wrote."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject
from tools.workbench.texts import pieces

LONGEST = 2048  # tokens of a text
TOGETHER = 256  # tokens encoded at once: bounds the dense [tokens, n_latents] block


@dataclass(frozen=True, eq=False)
class TextReading:
    """A text's n tokens (BOS left out), the residual stream on them [n, d_model], and which are sinks, bool[n]."""

    subject: Subject
    tokens: tuple[str, ...]
    residual: Tensor
    sinks: Tensor

    def encoded(self) -> Iterator[Tensor]:
        """[up to 256, n_latents] activations, float32 on the CPU, zero on sinks; together they cover the n tokens."""
        for start in range(0, len(self.residual), TOGETHER):
            activations = self.subject.dictionary.encode(self.residual[start : start + TOGETHER]).float()
            yield torch.where(self.sinks[start : start + TOGETHER, None], 0.0, activations).cpu()


def read_text(subject: Subject, text: str) -> TextReading:
    """The text as the subject reads it, BOS in front. ToolError when it is empty or longer than 2,048 tokens."""
    if not text:
        raise ToolError("A text is empty: give at least one token of text.")
    tokens = subject.to_tokens(text)
    longest = min(LONGEST, subject.context)
    if tokens.shape[1] > longest:
        raise ToolError(f"A text has {tokens.shape[1]:,} tokens and at most {longest:,} are read: give shorter texts.")
    residual = subject.residual(tokens)
    sinks = subject.sinks(residual)[0, 1:]
    return TextReading(subject, tuple(pieces(subject, tokens[0, 1:].tolist())), residual[0, 1:], sinks)
