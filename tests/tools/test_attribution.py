"""Attribution: exact where the model is linear, close to exact patching on the real model, honest about the rest."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.tiny import ANSWER, CONSTANT, COUNT, MANY, OUT, gate, tiny
from tools.workbench.attribution import estimated
from tools.workbench.context import Context
from tools.workbench.directions import Direction
from tools.workbench.gradients import Graph
from tools.workbench.metrics import Metric
from tools.workbench.pairs import Batch, Contrast, aligned, batch, measure
from tools.workbench.patching import Patch, Patcher
from tools.workbench.run import run
from tools.workbench.sites import Kind, Site, sweep
from tools.workbench.subject import Subject
from tools.workbench.verifying import by_chance, missed_at_most, rank_correlation

DIFFERENCE = Metric(kind="answer_difference", answers=("a",), down=("b",))


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
    assert found.values[0] == pytest.approx(0, abs=5e-3)
    assert found.sizes[0] == pytest.approx(2, abs=2e-2)
    assert (found.forward, found.backward) == (2, 3)
    assert estimated(patcher, [Site("z", 0, None, 0)], grad_drop=False).sizes[0] == pytest.approx(0, abs=5e-3)


def test_a_key_patched_alone_is_the_softmax_computed_anew(ioi: Patcher) -> None:
    """Against the pattern itself: one query's attention when one key is another, dotted with the pattern's gradient."""
    site = Site("k", 20, 12, 1)
    heads = range(3, 6)  # those that share the key head
    names = {what: f"blocks.20.attn.hook_{what}" for what in ("rot_q", "rot_k", "pattern")}
    graph = Graph(ioi.subject, ioi.into.tokens, ioi.reader, range(ioi.n), names.values())
    theirs: list[torch.Tensor] = []
    ioi.other.resume(torch.arange(ioi.n), 20, 0, [(names["rot_k"], lambda value: theirs.append(value.clone()))])
    q, own, gradient = (graph.values[names["rot_q"]], graph.values[names["rot_k"]], graph.gradients()[names["pattern"]])
    keys = own[:, :, 1].clone()
    keys[:, 12] = theirs[0][:, 12, 1]
    expected = np.zeros(ioi.n)
    future = torch.ones(ioi.length, ioi.length).triu(1).bool()
    for head in heads:
        before, after = (
            (torch.einsum("bie,bje->bij", q[:, :, head], k) / 8).masked_fill(future, -torch.inf).softmax(-1)
            for k in (own[:, :, 1], keys)
        )
        expected += ((after - before) * gradient[:, head]).sum((1, 2)).numpy()
    assert estimated(ioi, [site], grad_drop=False).values[0] == pytest.approx(expected, abs=1e-4)


def test_estimates_rank_heads_as_exact_patches_do(context: Context, ioi: Patcher) -> None:
    """Exactly patched: every head of the upper half, by output and by query."""
    rng = context.rng("test")
    found: dict[str, float] = {}
    for kind in ("z", "q"):
        sites = sweep(context.subject, kind, range(15, 30))
        exact = (ioi.run([Patch((site,)) for site in sites]) - ioi.own).mean(1)
        for fix in (True, False):
            estimates = estimated(ioi, sites, fix, grad_drop=False)
            correlation = rank_correlation(estimates.values.mean(1), exact)
            assert correlation is not None
            found[f"{kind} {fix}"] = correlation
        assert by_chance(exact, exact, rng) == pytest.approx(0.8 / len(sites) ** 0.5, abs=0.03)
    assert found["z True"] == found["z False"] >= 0.85
    assert found["q True"] >= found["q False"] + 0.05
    permuted = by_chance(estimates.values.mean(1), exact, rng)
    assert permuted is not None
    assert permuted < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["z", "q"])
def test_estimates_rank_all_heads(context: Context, ioi: Patcher, kind: Kind) -> None:
    sites = sweep(context.subject, kind)
    assert len(sites) == 270
    exact = (ioi.run([Patch((site,)) for site in sites]) - ioi.own).mean(1)
    fixed, plain = (estimated(ioi, sites, fix, grad_drop=False).values.mean(1) for fix in (True, False))
    correlation, without = rank_correlation(fixed, exact), rank_correlation(plain, exact)
    assert correlation is not None
    assert without is not None
    assert correlation >= (0.85 if kind == "z" else without + 0.05)
    permuted = by_chance(fixed, exact, context.rng("permuted"))
    assert permuted is not None
    assert permuted < 0.1


def test_what_subsets_say_of_the_rest() -> None:
    """Twenty effects that add up, one of them large: the bound is above it, and near 0 where all are."""
    rng = np.random.default_rng(0)
    inside = rng.permuted(np.arange(64)[:, None] % 2 == np.zeros((1, 20)), axis=0)
    effects = np.full(20, 0.01)
    low = missed_at_most(inside, inside @ effects)
    effects[3] = 1.0
    high = missed_at_most(inside, inside @ effects)
    assert low is not None
    assert high is not None
    assert 0.01 < low < 0.1
    assert 1.0 < high < 1.5
    assert missed_at_most(inside[:6], np.zeros(6)) is None


def test_the_tool_verifies_what_it_estimates(context: Context) -> None:
    found = call("attribution_patching", context, template="ioi", n=2, mode="noising", layers=[22, 23, 24, 25])
    assert found["sites"] == 36
    assert found["top"][0]["site"] in ("L23H0 z", "L23H3 z", "L24H4 z")
    assert found["correlation"] > 0.7 > found["controls"]["permuted"]
    assert found["controls"]["own_values"] == pytest.approx(0, abs=1e-4)
    assert max(found["controls"]["randoms"], key=abs) == found["controls"]["random_direction"]
    assert len(set(found["controls"]["randoms"])) == 9
    assert all(abs(value) < found["top"][0]["effect"] < 1.5 for value in found["controls"]["randoms"])  # of the gap
    drawn = [row["effect"] for row in found["top"] if row["drawn"]]
    assert np.abs(drawn).mean() == pytest.approx(found["controls"]["random_sites"])
    assert found["missed_at_most"] > 0
    assert len([row for row in found["top"] if row["drawn"]]) == 12
    assert len(found["map"]["rows"]) == 4
    told = found["verdict"]
    assert "rank correlation" in told
    assert f"random directions at most {found['controls']['random_direction']:+z.2f}" in told
    best = found["top"][0]
    assert f"(estimate {best['estimate'] / best['exact'] * best['effect']:+z.2f})" in told
    assert len(told) <= 640  # whole where it is shown
    assert (found["forward"], found["backward"]) == (2, 9)


def test_the_divergence_has_a_gradient_in_the_corrupted_run_alone(context: Context) -> None:
    asked = {"template": "ioi", "n": 2, "metric": "kl", "layers": [23, 24], "grad_drop": False, "top": 4, "sample": 4}
    found = call("attribution_patching", context, **asked)
    assert found["correlation"] > 0.7
    assert found["top"][0]["site"] == "L23H3 z"
    assert found["top"][0]["estimate"] < -0.5 > found["top"][0]["exact"]  # nats from the clean prompt's next token
    noised = asyncio.run(run("attribution_patching", {**asked, "mode": "noising"}, context))
    assert "gradient is 0 too" in str(noised.error)


def test_latents_are_complete_and_right_one_by_one(context: Context) -> None:
    found = call("integrated_latent_attribution", context, template="ioi", n=2, top=24, sample=24)
    assert found["complete"]
    assert found["completeness"] == pytest.approx(1, abs=0.15)
    assert found["pearson_gradient"] >= 0.9
    assert found["controls"]["sign_flipped"] == pytest.approx(-found["pearson_gradient"])
    assert found["controls"]["own_values"] == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_attributed_is_said(context: Context) -> None:
    experiment = asyncio.run(run("attribution_patching", {"template": "ioi", "n": 1, "layers": [20], "site": "mlp_out",
                                                          "positions": "all"}, context))  # fmt: skip
    assert experiment.error is not None
    assert "activation_patching" in experiment.error


def test_a_direction_is_checked_for_illusion(context: Context) -> None:
    """Along a pair's own difference the exchange is that of the whole activation; a random direction does little."""
    subject = context.subject
    kept = aligned(subject, Contrast(template="ioi", n=1)).kept
    hook = subject.residual_points[24]
    clean, corrupted = (
        subject.value_at(hook, torch.tensor([tokens]))[0, -1] for tokens in (kept[0].clean, kept[0].corrupted)
    )
    difference = clean - corrupted
    vector = (difference / difference.norm()).float().cpu()
    name = context.directions.save(Direction(vector=vector, model=subject.name, hook=hook, method="test"))
    pair = {"clean": "".join(subject.token_strings(kept[0].clean[1:])),
            "corrupted": "".join(subject.token_strings(kept[0].corrupted[1:]))}  # fmt: skip
    pair |= dict(zip(("answer", "other"), subject.token_strings([kept[0].answer, kept[0].other]), strict=True))
    found = call("subspace_check", context, pairs=[pair], direction=name)
    assert found["check"]["direction"] == pytest.approx(found["check"]["full"], rel=1e-3)  # all of this pair's change
    assert found["controls"]["random_direction"] < 0.2 * found["check"]["direction"]
    assert not found["suspect"]
    refused = asyncio.run(run("subspace_check", {"pairs": [pair], "direction": name, "layer": 30}, context))
    assert "layers 0 to 29" in str(refused.error)
    heads = Direction(vector=vector, model=subject.name, hook="blocks.12.attn.hook_z", method="test")  # as wide
    refused = asyncio.run(
        run("subspace_check", {"pairs": [pair], "direction": context.directions.save(heads)}, context)
    )
    assert "is no direction of the residual stream" in str(refused.error)
