"""Tokens cluster by the mechanism that predicts them: known tasks of a toy, induction and counting in the model."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from store.ledger import Ledger
from tools.workbench.circuits import common_tokens
from tools.workbench.context import Context
from tools.workbench.quanta import clusters, cosines, exchanged, loss_gradients, separation, sketch
from tools.workbench.run import run
from tools.workbench.subject import Subject

TASKS, BITS, READ = 5, 12, 2


def parities(
    n: int, reads: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Multitask sparse parity (2303.13506, section 3): inputs [n, TASKS + BITS] that name a task and hold bits, the
    parity [n] of those bits that the task reads, `reads` int64[TASKS, READ], and the task [n]."""
    task = torch.randint(TASKS, (n,), generator=generator)
    bits = torch.randint(2, (n, BITS), generator=generator)
    x = torch.cat([4 * torch.nn.functional.one_hot(task, TASKS), bits], dim=1).float()
    return x, bits.gather(1, reads[task]).sum(1) % 2, task


def test_gradients_of_known_tasks_cluster_by_task() -> None:
    """Inputs of one answer by their task. Those of the other answer have the opposite gradients, so that all together
    cluster by the size of the cosine."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    reads = torch.stack([torch.randperm(BITS, generator=generator)[:READ] for _ in range(TASKS)])
    first, second = torch.nn.Linear(TASKS + BITS, 128), torch.nn.Linear(128, 2)
    optimiser = torch.optim.AdamW([*first.parameters(), *second.parameters()], lr=3e-3, weight_decay=0.1)
    for _ in range(600):
        x, y, _ = parities(512, reads, generator)
        loss = torch.nn.functional.cross_entropy(second(first(x).relu()), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, y, task = parities(200, reads, generator)
    before = first(x)
    hidden = before.relu()
    logits = second(hidden)
    assert (logits.argmax(1) == y).float().mean() > 0.95
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y, reduction="sum"), [before, logits])
    sketches = sketch([x[:, None], hidden.detach()[:, None]], [each[:, None] for each in gradients])
    similarity, odd = cosines(sketches), y == 1
    assert adjusted_rand_score(task[odd], clusters(similarity[odd][:, odd], TASKS)) > 0.9
    assert adjusted_rand_score(task, clusters(similarity.abs(), TASKS)) > 0.9
    same, other = task[:, None] == task[None], y[:, None] != y[None]
    assert similarity[same & other].mean() < -0.3
    mixed = cosines(exchanged(sketches, np.random.default_rng(0)))
    assert abs(adjusted_rand_score(task[odd], clusters(mixed[odd][:, odd], TASKS))) < 0.2


def test_a_sketch_keeps_the_cosines_of_whole_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(6, 5, 40, generator=generator) for _ in range(40)]
    gradients = [torch.randn(6, 5, 30, generator=generator) for _ in range(40)]
    inputs = [torch.cat([each[:3], each[:3]]) for each in inputs]
    gradients = [torch.cat([each[:3], each[:3] + 0.5 * each[3:]]) for each in gradients]
    pairs = zip(inputs, gradients, strict=True)
    whole = torch.cat([torch.einsum("nsa,nsb->nab", g, x).flatten(1) for x, g in pairs], dim=1)
    torch.testing.assert_close(cosines(sketch(inputs, gradients)), cosines(whole), atol=0.1, rtol=0)


def test_gradients_equal_those_of_the_weights(subject: Subject) -> None:
    """A token's own gradient by one output matrix, from autograd, projected in the same way."""
    tokens = subject.to_tokens("one two three four five")
    sketches, losses = loss_gradients(subject, tokens)
    logits = subject.logits(tokens)[0, -2]
    assert float(losses[0]) == pytest.approx(float(-logits.log_softmax(-1)[tokens[0, -1]]), abs=1e-3)
    assert sketches.shape == (1, 2 * 30 * 16**2)
    assert torch.isfinite(sketches).all()


def texts(subject: Subject, n: int) -> tuple[list[str], list[int]]:
    """`n` whose last token was seen after the same token before, `n` that count on."""
    words = [word for word in subject.token_strings(common_tokens(subject, 800).tolist()) if word[0] == " "]
    rng = np.random.default_rng(0)
    drawn = (list(rng.permutation([word for word in words if word[1:].isalpha()])[:5]) for _ in range(n))
    repeats = ["".join([*five, *five[:4]]) for five in drawn]
    counts = [
        between.join(str(each) for each in range(start, start + 4))
        for between in (" ", ", ")
        for start in range(1, n // 2 + 1)
    ]
    return [*repeats, *counts], [0] * n + [1] * n


def test_induction_and_counting_separate(subject: Subject, tmp_path: Path) -> None:
    context = Context(subject, Ledger(tmp_path / "store.duckdb"))
    given, truth = texts(subject, 100)
    experiment = asyncio.run(run("gradient_clusters", {"texts": given, "clusters": 2}, context))
    assert experiment.error is None, experiment.error
    output: Any = experiment.output
    assert adjusted_rand_score(truth, output["labels"]) > 0.8
    assert output["separation"] > 3 * abs(output["controls"]["exchanged"])
    assert len(output["map"]["values"]) == 2
    assert sum(each["size"] for each in output["clusters"]) == 200
    few = asyncio.run(run("gradient_clusters", {"texts": given[:3], "clusters": 5}, context))
    assert "fewer" in str(few.error)


def test_separation_by_hand() -> None:
    similarity = torch.tensor([[1.0, 0.8, 0.1, 0.1], [0.8, 1, 0.1, 0.1], [0.1, 0.1, 1, 0.6], [0.1, 0.1, 0.6, 1]])
    assert separation(similarity, np.array([0, 0, 1, 1])) == pytest.approx(0.6)
    assert separation(similarity, np.array([0, 0, 0, 0])) == 0
    assert clusters(similarity, 2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
