"""Attribution: exact where the model is linear, close to exact patching on the real model, honest about the rest."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from store.ledger import Ledger
from tests.tools.tiny import ANSWER, CONSTANT, COUNT, MANY, OUT, gate, tiny
from tools.workbench.attribution import estimated
from tools.workbench.context import Context
from tools.workbench.metrics import Metric
from tools.workbench.pairs import Batch, Contrast, aligned, batch, measure
from tools.workbench.patching import Patch, Patcher
from tools.workbench.run import run
from tools.workbench.sites import Kind, Site, sweep
from tools.workbench.subject import Subject
from tools.workbench.verifying import by_chance, missed_at_most, rank_correlation

DIFFERENCE = Metric(kind="answer_difference", answers=("a",), others=("b",))


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("attribution") / "store.duckdb"))


@pytest.fixture(scope="module")
def ioi(context: Context) -> Patcher:
    kept = aligned(context.subject, Contrast(template="ioi", n=2)).same_places(context.subject).kept
    return Patcher(context, batch(kept), measure(context.subject, kept, "logit_difference"), "noising")


@pytest.fixture
def toy(subject: Subject, tmp_path: Any) -> Context:
    return Context(tiny(subject.tokenizer, str(tmp_path)), Ledger(tmp_path / "store.duckdb"))


def call(name: str, context: Context, **input: Any) -> dict[str, Any]:
    experiment = asyncio.run(run(name, input, context))
    assert experiment.error is None, experiment.error
    assert experiment.output is not None
    return experiment.output


def cancelling(subject: Subject, back: float) -> Batch:
    """The head of layer 0 counts what is on; the logit reads the count, and the MLP of layer 1 takes `back` of it."""
    pairs = gate(subject, 1)
    model = subject.model.original_model
    model.model.layers[0].mlp.down_proj.weight.zero_()
    unit = MANY / 8**0.5  # what the norm divides by
    mlp = model.model.layers[1].mlp
    mlp.gate_proj.weight[0, COUNT] = unit
    mlp.gate_proj.weight[:2, CONSTANT] = 20 / 8**0.5  # so far from 0 that the gate is linear; the second takes it off
    mlp.up_proj.weight[:2, CONSTANT] = 8**-0.5
    mlp.down_proj.weight[OUT, :2] = torch.tensor([-back, back])
    model.lm_head.weight[ANSWER, [COUNT, OUT]] = unit
    return pairs


@pytest.mark.parametrize("kind", ["z", "v", "attn_out"])
def test_estimates_are_exact_where_the_model_is_linear(toy: Context, kind: Kind) -> None:
    patcher = Patcher(toy, cancelling(toy.subject, 0.5), DIFFERENCE, "noising")
    sites = sweep(toy.subject, kind, [0], (1, None)) if kind != "z" else sweep(toy.subject, kind, [0])
    found, exact = estimated(patcher, sites).values, patcher.run([Patch((site,)) for site in sites])
    assert found == pytest.approx(exact - patcher.own, abs=2e-3)
    assert np.abs(found).max() > 0.4  # of the two inputs that are on, half is taken back


def test_grad_drop_sees_what_cancels(toy: Context) -> None:
    """The count of 2 goes by two paths of opposite sign: nothing changes, and each path alone carries 2."""
    patcher = Patcher(toy, cancelling(toy.subject, 1), DIFFERENCE, "noising")
    found = estimated(patcher, [Site("z", 0, None, 0)])
    assert found.values[0] == pytest.approx(0, abs=2e-3)
    assert found.sizes[0] == pytest.approx(2, abs=2e-2)
    assert (found.forward, found.backward) == (2, 3)
    assert estimated(patcher, [Site("z", 0, None, 0)], grad_drop=False).sizes[0] == pytest.approx(0, abs=2e-3)


def test_one_key_patched_alone_is_the_softmax_computed_anew(ioi: Patcher) -> None:
    """On the pattern's own scale: against finite differences of nothing, but against exact patches where they differ."""
    sites = [Site("k", 20, position, 0) for position in (10, 12)]
    alone = estimated(ioi, sites, grad_drop=False).values
    both = estimated(ioi, [Site("k", 20, None, 0)], grad_drop=False).values
    plain = estimated(ioi, sites, qk_fix=False, grad_drop=False).values
    assert np.isfinite(alone).all()
    assert not np.allclose(alone, plain)
    assert not np.allclose(alone.sum(0), both[0])
