"""What an ablation does is taken apart: against other ways to the same numbers, and where the answer is known."""

from typing import Any

import numpy as np
import pytest
import torch

from store.ledger import Ledger
from tests.tools.calling import call
from tools.workbench.context import Context
from tools.workbench.edges import Edges
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.logit_parts import attribute
from tools.workbench.metrics import Metric
from tools.workbench.pairs import Aligned, Contrast, aligned, batch, measure
from tools.workbench.patching import Patch, Patcher
from tools.workbench.registry import ToolError
from tools.workbench.repair import Repair, attached, of_edges, of_edits, of_patch, repair_said, summed
from tools.workbench.sites import Kind, Site
from tools.workbench.subject import Subject


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("repair") / "store.duckdb"))


@pytest.fixture(scope="module")
def pairs(subject: Subject) -> tuple[Aligned, ...]:
    return aligned(subject, Contrast(template="ioi", n=2)).same_places(subject).kept


@pytest.fixture(scope="module")
def noising(context: Context, pairs: tuple[Aligned, ...]) -> Patcher:
    return Patcher(context, batch(pairs), measure(context.subject, pairs, "logit_difference"), "noising")


def edited(context: Context, pairs: tuple[Aligned, ...], **target: Any) -> Repair:
    changes = prepare(context.subject, [Edit(operation="ablate", **target)], context.directions)
    metric = measure(context.subject, pairs, "logit_difference")
    found = of_edits(context, changes, [pair.clean for pair in pairs], metric)
    assert found.total == pytest.approx(found.direct + found.downstream + found.norm, abs=1e-3)
    return found


def test_an_ablated_heads_direct_loss_is_its_attribution(context: Context, pairs: tuple[Aligned, ...]) -> None:
    own = batch(pairs)
    written = attribute(context.subject, own.clean, own.answer, own.other).written
    for layer, head in ((23, 3), (24, 4), (29, 1)):
        found = edited(context, pairs, head=head, layers=(layer,))
        assert found.direct == pytest.approx(-written.heads[:, layer, head].numpy(), abs=1e-3)
        assert np.abs(found.direct).min() > 0.2


def test_nothing_comes_after_the_last_mlp(context: Context, pairs: tuple[Aligned, ...], noising: Patcher) -> None:
    """With the norm held, the loss of the last layer's neurons or of its MLP is direct alone."""
    neuron = int(context.subject.value_at("blocks.29.mlp.hook_post", batch(pairs).clean)[0, -1].abs().argmax())
    for found in (
        edited(context, pairs, neuron=neuron, layers=(29,)),
        of_patch(noising, Patch((Site("mlp_out", 29),))),
        of_patch(noising, Patch((Site("resid_post", 29),))),
    ):
        assert found.downstream == pytest.approx(0, abs=1e-4)
        assert found.total - found.norm == pytest.approx(found.direct, abs=1e-3)
        assert np.abs(found.direct).max() > 0.1


def test_a_latent_loses_what_its_decoder_adds(context: Context, pairs: tuple[Aligned, ...]) -> None:
    subject, own = context.subject, batch(pairs)
    latent = int(subject.activations(own.clean)[:, -1].sum(0).argmax())
    found = edited(context, pairs, latent=latent)
    read = attribute(subject, own.clean, own.answer, own.other).direction @ subject.dictionary.decoder[latent].double()
    activation = subject.activations(own.clean)[:, -1, latent].double()
    assert found.direct == pytest.approx((-activation * read).numpy(), rel=1e-3, abs=1e-4)
    assert np.abs(found.downstream).max() > np.abs(found.direct).max()  # 15 layers read it


def test_a_direction_taken_out_everywhere_adds_up(context: Context, pairs: tuple[Aligned, ...]) -> None:
    vector = tuple(torch.randn(576, generator=torch.Generator().manual_seed(0)).tolist())
    assert np.abs(edited(context, pairs, direction=vector, layers="all").total).max() > 0.01


def test_the_same_loss_by_patches_and_by_edges(context: Context, pairs: tuple[Aligned, ...], noising: Patcher) -> None:
    edges = Edges(context, batch(pairs), measure(context.subject, pairs, "logit_difference"))
    for name, site in (("L24H4", Site("z", 24, None, 4)), ("L20MLP", Site("mlp_out", 20))):
        mine = of_patch(noising, Patch((site,)))
        theirs = of_edges(edges, [edges.graph.sent_by(edges.graph.node(name))]).of(0)
        for piece in ("total", "direct", "downstream", "norm"):
            assert getattr(mine, piece) == pytest.approx(getattr(theirs, piece), abs=1e-3), piece


@pytest.mark.parametrize(("kind", "index"), [("q", 4), ("pattern", 4), ("k", 1)])
def test_what_writes_nothing_has_no_direct_loss(noising: Patcher, kind: Kind, index: int) -> None:
    with pytest.raises(ToolError, match="not written into the residual stream"):
        of_patch(noising, Patch((Site(kind, 24, None, index),)))


def test_a_metric_that_is_no_sum_is_said(context: Context) -> None:
    found = attached(lambda: of_edits(context, [], [[0, 1]], Metric(kind="kl")))
    assert "no logit difference" in str(found)
    assert repair_said(found).startswith("Self-repair is not told: ")


def test_a_share_needs_a_direct_effect() -> None:
    total, direct, downstream, norm = (np.array([value]) for value in (-0.6, -1.0, 0.3, 0.1))
    found = summed(Repair(total, direct, downstream, norm))
    assert (found.share, found.norm_share) == pytest.approx((0.4, 0.1))
    assert "40% of the direct effect is made good" in repair_said(found)
    assert "50% larger and not made good" in repair_said(summed(Repair(total - 0.9, direct, downstream, norm)))
    none = summed(Repair(total, direct / 100, downstream, norm))
    assert none.share is None
    assert "little direct effect" in repair_said(none)


def test_ablations_carry_it(context: Context, pairs: tuple[Aligned, ...]) -> None:
    subject = context.subject
    prompts = ["".join(subject.token_strings(pair.clean[1:])) for pair in pairs]
    answers, others = (subject.token_strings([getattr(p, who) for p in pairs]) for who in ("answer", "other"))
    head = {"targets": [{"head": 3, "layers": [23]}], "prompts": prompts}
    for metric in (
        {"kind": "answer_difference", "answers": answers, "down": others},
        {"kind": "logit_difference", "up": [" Mary", " John"], "down": [" the"]},
    ):
        found = call("ablate", context, **head, metric=metric)
        pieces = found["self_repair"]
        assert pieces["total"] == pytest.approx(found["effect"]["effect"], abs=1e-3)
        assert pieces["total"] == pytest.approx(pieces["direct"] + pieces["downstream"] + pieces["norm"], abs=1e-3)
        assert "later parts" in found["verdict"]
    asked = {"template": "ioi", "n": 2, "mode": "noising", "site": "z", "layers": [24], "indices": [3, 4]}
    noised = call("activation_patching", context, **asked)
    assert noised["strongest"]["site"] == "L24H4 z"
    assert noised["self_repair"]["total"] == pytest.approx(noised["strongest"]["change"], abs=1e-3)
    assert "What L24H4 z loses" in noised["verdict"]
