"""One pass over a corpus: which latents fire on which tokens, streamed to disk shard by shard.

The model runs only to the hook point; a batch of activations is made sparse as soon as it is encoded, so memory depends
on the shard (65,536 tokens), not on the corpus. Killed at any moment and called again, it goes on from the last whole
shard.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from store.activations import Firings, Harvest, HarvestWriter, Window
from store.errors import UserError
from tools.workbench.batches import BATCH_TOKENS, CONTEXT, Batch, cut_windows, forward, take_tokens
from tools.workbench.corpus import Corpus
from tools.workbench.dictionary import sparse
from tools.workbench.subject import Subject

SHARD_TOKENS = 65_536
ENCODE_TOKENS = 1024  # tokens encoded at once: bounds the dense [tokens, n_latents] block

Progress = Callable[[int, int], None]  # (tokens done, tokens in all)


def harvest(
    subject: Subject,
    corpus: Corpus,
    tokens: int,
    folder: Path,
    progress: Progress = lambda done, total: None,
    context: int = CONTEXT,
    batch_tokens: int = BATCH_TOKENS,
) -> Harvest:
    """Runs about `tokens` tokens of `corpus` (BOS included, up to the end of a shard) and returns the finished harvest.

    Documents are taken from the front of the corpus. Raises UserError when the corpus has no usable document, or
    `folder` holds a harvest of something else.
    """
    windows = cut_windows(subject, enumerate(corpus.documents), context)
    first = next(windows, None)
    if first is None:
        raise UserError(f"The corpus {corpus.name!r} has no document of two tokens or more: give longer text.")
    writer = HarvestWriter(folder, _header(subject, corpus, tokens, context), subject.dictionary.n_latents)
    ahead = chain([first], windows)
    shard, done = 0, 0
    while done < tokens and (taken := take_tokens(ahead, min(SHARD_TOKENS, tokens - done))):
        if shard >= writer.shards_done:
            firings, sinks = encode_shard(subject, taken, batch_tokens, partial(_advance, progress, done, tokens))
            writer.write_shard(taken, *firings, sinks=sinks)
        done += sum(len(window.tokens) for window in taken)
        shard += 1
        progress(min(done, tokens), tokens)
    writer.finish()
    return Harvest(folder)


def encode_shard(
    subject: Subject, windows: list[Window], batch_tokens: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[Firings, int]:
    """Firings of every latent on every token that is not a sink, and the number of sinks."""
    parts: list[Firings] = []
    done, read, shown = 0, 0, perf_counter()
    for batch in forward(subject, windows, batch_tokens):
        parts.extend(_encode(subject, batch))
        read += int(batch.valid.sum())
        done += sum(len(window.tokens) for window in batch.windows)
        if perf_counter() - shown > 0.2:
            shown = perf_counter()
            progress(done)
    return Firings(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), done - read


def _encode(subject: Subject, batch: Batch) -> Iterator[Firings]:
    row, position = batch.valid.nonzero(as_tuple=True)
    ids = torch.tensor([window.id for window in batch.windows], device=row.device)
    for rows, positions in zip(torch.split(row, ENCODE_TOKENS), torch.split(position, ENCODE_TOKENS), strict=True):
        token, latent, activation = sparse(subject.dictionary.encode(batch.residual[rows, positions]))
        yield Firings(
            latent=_numpy(latent, torch.int32),
            window=_numpy(ids[rows[token]], torch.int32),
            position=_numpy(positions[token], torch.int16),
            activation=_numpy(activation, torch.float32),
        )


def _advance(progress: Progress, done: int, total: int, more: int) -> None:
    progress(min(done + more, total), total)


def _numpy(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    array: np.ndarray = values.to("cpu", dtype).numpy()
    return array


def _header(subject: Subject, corpus: Corpus, tokens: int, context: int) -> dict[str, object]:
    """What decides the harvest's content: another value of any of these is another harvest."""
    return {
        "subject": subject.fingerprint,
        "model": subject.name,
        "dictionary": subject.dictionary.name,
        "hook": subject.hook,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "corpus": corpus.name,
        "corpus_hash": corpus.hash,
        "tokens": tokens,
        "context": context,
        "shard_tokens": SHARD_TOKENS,
    }
