"""The harvest against a direct recomputation, one window at a time, and against its own interruption."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from store.activations import Harvest
from store.errors import UserError
from tools.dictionaries.load import load_subject
from tools.workbench import harvest as harvest_module
from tools.workbench.batches import cut_windows
from tools.workbench.corpus import Corpus, Document, open_corpus
from tools.workbench.harvest import harvest
from tools.workbench.subject import Subject

TOKENS = 1800
SHARD = 500


@pytest.fixture(scope="module")
def folder_of_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents of very different lengths, from the standard library's own help texts."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("text")
    for number, key in enumerate(sorted(topics)[:40]):
        (folder / f"{number:02d}.txt").write_text(topics[key][: 40 + 60 * number])
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest_module, "SHARD_TOKENS", SHARD)


def dense(found: Harvest, latents: int) -> dict[int, np.ndarray]:
    """Window -> [tokens, n_latents] as stored."""
    windows = found.windows(range(found.n_windows))
    stored = {w.id: np.zeros((len(w.tokens), latents), np.float32) for w in windows}
    firings = found.firing_latents(range(found.n_windows))
    for latent, window, position, activation in zip(*firings, strict=True):
        stored[int(window)][position, latent] = activation
    return stored


@pytest.mark.usefixtures("small_shards")
def test_stored_equals_a_direct_recomputation(subject: Subject, folder_of_text: Path, tmp_path: Path) -> None:
    found = harvest(subject, open_corpus(str(folder_of_text)), TOKENS, tmp_path / "h")
    assert found.n_tokens >= TOKENS
    assert len(list((tmp_path / "h").glob("activations-*.parquet"))) > 2
    stored = dense(found, subject.dictionary.n_latents)
    sinks = 0
    for window in found.windows(range(0, found.n_windows, 3)):
        direct = subject.activations(torch.from_numpy(window.tokens.astype(np.int64))[None])[0].numpy()
        fires = direct > 0
        assert ((stored[window.id] > 0) == fires).all(), "the same set of firing positions"
        assert (np.abs(stored[window.id] - direct)[fires] <= 1e-3 * direct[fires]).all()
        sinks += int(stored[window.id][0].any())
    assert sinks == 0, "position 0 must never be read"


@pytest.mark.usefixtures("small_shards")
def test_bf16_stays_within_its_stated_tolerance(subject: Subject, folder_of_text: Path, tmp_path: Path) -> None:
    """bfloat16 keeps 8 bits: at least 90 % of firings are shared with float32, the median error is under 3 %."""
    corpus = open_corpus(str(folder_of_text))
    wide = dense(harvest(subject, corpus, 1500, tmp_path / "wide"), subject.dictionary.n_latents)
    narrow_subject = load_subject(dtype="bfloat16")
    narrow = dense(harvest(narrow_subject, corpus, 1500, tmp_path / "narrow"), subject.dictionary.n_latents)
    a, b = (np.concatenate([rows[w] for w in sorted(rows)]) for rows in (wide, narrow))
    both, either = (a > 0) & (b > 0), (a > 0) | (b > 0)
    assert both.sum() / either.sum() >= 0.90
    assert np.median(np.abs(a[both] - b[both]) / a[both]) < 0.03


def test_a_window_never_spans_two_documents(subject: Subject) -> None:
    documents = [Document("one two three four five " * 40, "a"), Document("x", "b"), Document("six seven eight", "c")]
    windows = list(cut_windows(subject, enumerate(documents), context=64))
    assert {w.document for w in windows} == {0, 2}, "a document of one token is passed over"
    assert all(w.tokens[0] == subject.bos and len(w.tokens) <= 64 for w in windows)
    ids = subject.tokenize([documents[0].text])[0]
    assert [int(t) for w in windows if w.document == 0 for t in w.tokens[1:]] == ids


def test_a_corpus_of_single_tokens_is_refused(subject: Subject, tmp_path: Path) -> None:
    corpus = Corpus("tiny", (Document("x", "a"),), "0")
    with pytest.raises(UserError, match="no document of two tokens"):
        harvest(subject, corpus, 100, tmp_path / "h")


KILLED = """
import sys, tools.workbench.harvest as h
from pathlib import Path
from tools.dictionaries.load import load_subject
from tools.workbench.corpus import open_corpus
h.SHARD_TOKENS = {shard}
subject = load_subject(dtype="float32")
print("go", flush=True)
h.harvest(subject, open_corpus(sys.argv[1]), {tokens}, Path(sys.argv[2]))
"""


@pytest.mark.usefixtures("small_shards")
def test_killed_and_resumed_equals_uninterrupted(subject: Subject, folder_of_text: Path, tmp_path: Path) -> None:
    script = KILLED.format(shard=SHARD, tokens=2 * TOKENS)
    folder = tmp_path / "h"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder_of_text), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    while not (folder / "activations-00001.parquet").exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it must have been killed before it finished"
    corpus = open_corpus(str(folder_of_text))
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("activations-0000[0]*")}
    harvest(subject, corpus, 2 * TOKENS, folder)
    assert all((folder / name).stat().st_mtime_ns == time_ns for name, time_ns in kept.items()), "done shards stay"
    harvest(subject, corpus, 2 * TOKENS, tmp_path / "whole")
    names = sorted(p.name for p in (tmp_path / "whole").glob("*.parquet"))
    assert names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_another_harvest_in_the_folder_is_refused(subject: Subject, folder_of_text: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(folder_of_text))
    harvest(subject, corpus, 300, tmp_path / "h")
    with pytest.raises(UserError, match="something else"):
        harvest(subject, corpus, 400, tmp_path / "h")
