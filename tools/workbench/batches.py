"""From documents to batches of residual stream: windows of one document each, padded little, sinks masked.

A window is BOS and up to `context - 1` tokens of a single document, so no activation depends on another document.
Windows of like length share a batch, which keeps padding to a few per cent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from store.activations import Window
from tools.workbench.corpus import Document
from tools.workbench.subject import Subject

CONTEXT = 256  # tokens of a window, BOS included
BATCH_TOKENS = 4096  # tokens of a forward pass, padding included
TOKENIZE_TOGETHER = 256  # documents
MIN_TOKENS = 2  # of a document: one token has no context to explain it by


@dataclass(frozen=True)
class Batch:
    """A forward pass's worth of windows. tokens: int64[b, s], padded with 0; residual: [b, s, d_model], what the
    dictionary reads; valid: bool[b, s], False on padding and sinks."""

    windows: list[Window]
    tokens: Tensor
    residual: Tensor
    valid: Tensor


def cut_windows(
    subject: Subject, documents: Iterable[tuple[int, Document]], context: int = CONTEXT
) -> Iterator[Window]:
    """Windows of numbered documents, in order. Documents of fewer than two tokens are passed over."""
    number = 0
    body = context - 1
    for chunk in _chunks(documents, TOKENIZE_TOGETHER):
        for (index, _), ids in zip(chunk, subject.tokenize([d.text for _, d in chunk]), strict=True):
            if len(ids) < MIN_TOKENS:
                continue
            for start in range(0, len(ids), body):
                tokens = np.array([subject.bos, *ids[start : start + body]], dtype=np.int32)
                yield Window(id=number, document=index, start=start, tokens=tokens)
                number += 1


def take_tokens(windows: Iterator[Window], tokens: int) -> list[Window]:
    """The next windows that together hold at least `tokens` tokens (fewer at the end)."""
    taken: list[Window] = []
    held = 0
    for window in windows:
        taken.append(window)
        held += len(window.tokens)
        if held >= tokens:
            break
    return taken


def forward(subject: Subject, windows: Sequence[Window], batch_tokens: int = BATCH_TOKENS) -> Iterator[Batch]:
    """Runs the subject to its hook point over `windows`, shortest first; every window comes back exactly once."""
    ordered = sorted(windows, key=lambda w: (len(w.tokens), w.id))
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * len(ordered[end].tokens) <= batch_tokens:
            end += 1
        batch = ordered[start:end]
        width = len(batch[-1].tokens)
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        for row, window in enumerate(batch):
            tokens[row, : len(window.tokens)] = window.tokens
        lengths = torch.tensor([len(w.tokens) for w in batch], device=subject.device)
        rows = torch.from_numpy(tokens)
        residual = subject.residual(rows)
        real = torch.arange(width, device=subject.device) < lengths[:, None]
        yield Batch(batch, rows, residual, real & ~subject.sinks(residual))
        start = end


def _chunks(items: Iterable[tuple[int, Document]], size: int) -> Iterator[list[tuple[int, Document]]]:
    chunk: list[tuple[int, Document]] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
