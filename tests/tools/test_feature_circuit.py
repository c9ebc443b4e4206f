"""Sparse feature circuits: closed form on a toy, finite differences and exact patching on the real model."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig

from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.test_attribution import DIFFERENCE, cancelling
from tests.tools.tiny import COUNT, OUT, tiny
from tools.dictionaries.load import with_dictionary
from tools.workbench.context import Context
from tools.workbench.dictionary import Dictionary
from tools.workbench.feature_edges import Cut, edge_weights
from tools.workbench.features import Features, Node, complement, encoded, mask_of, nodes_of
from tools.workbench.pairs import Contrast, aligned, batch, measure
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.run import run, validate
from tools.workbench.subject import Subject

BACK = 0.25  # of the count, that the toy's MLP takes back
LATER = "blocks.22.hook_resid_pre"


@pytest.fixture(scope="module")
def later(subject: Subject) -> Subject:
    """The default dictionary's directions, read further up: for the arithmetic of edges any dictionary will do."""
    other = Subject(subject.name, subject.model, LATER, subject.dictionary)
    other.typical_norm = subject.layer_norms[22]
    return other


@pytest.fixture(scope="module")
def context(subject: Subject, later: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    def opens(name: str) -> Subject:
        return later if name == "later" else with_dictionary(subject, name)

    return Context(subject, Ledger(tmp_path_factory.mktemp("features") / "store.duckdb"), opens=opens)


@pytest.fixture(scope="module")
def ioi(context: Context, later: Subject) -> Features:
    kept = aligned(context.subject, Contrast(template="ioi", n=2)).same_places(context.subject).kept
    metric = measure(context.subject, kept, "logit_difference")
    return Features(context, [later, context.subject], batch(kept), metric)


@pytest.fixture
def toy(subject: Subject, tmp_path: Any) -> Features:
    """The count reaches the logit by the residual stream, and the MLP of layer 1 takes a quarter back. Two dictionaries
    whose latents are the coordinates and their opposites: the stream before the MLP, and what it writes."""
    model = tiny(subject.tokenizer, str(tmp_path))
    pairs = cancelling(model, BACK)
    readings = []
    for hook in ("blocks.1.hook_mlp_out", "blocks.1.hook_resid_pre"):
        sae = StandardSAE(StandardSAEConfig(d_in=8, d_sae=16, apply_b_dec_to_input=False))
        both = torch.cat([torch.eye(8), -torch.eye(8)])
        with torch.no_grad():
            sae.W_enc.copy_(both.T)
            sae.W_dec.copy_(both)
        readings.append(Subject("tiny", model.model, hook, Dictionary("both", sae.requires_grad_(False), hook)))
        readings[-1].typical_norm = 1e6
    return Features(Context(readings[1], Ledger(tmp_path / "store.duckdb")), readings, pairs, DIFFERENCE)


def test_edges_of_the_toy_are_its_closed_form(toy: Features) -> None:
    """Both inputs are on: the count of 2 gives the logit 2 directly and -0.5 by the MLP, which is counted once."""
    count, back = Node(0, COUNT, 0), Node(1, OUT + 8, 0)
    found = {(e.sender, e.receiver): e.weight for e in edge_weights(toy, [count, back], by_position=False)}
    assert found[count, None] == pytest.approx(-2, abs=1e-2)
    assert found[count, back] == pytest.approx(2 * BACK, abs=1e-2)
    assert found[back, None] == pytest.approx(2 * BACK, abs=1e-2)
    total = toy.attributed(0)[0].sum((0, 1))[COUNT]
    assert total == pytest.approx(-2 * (1 - BACK), abs=1e-2)


def test_what_leaves_a_node_adds_up_to_its_effect(toy: Features) -> None:
    """The edges to all later nodes and to the metric, against the gradient by every path."""
    nodes = nodes_of(complement(toy.nothing(by_position=True)))
    weights = edge_weights(toy, nodes, by_position=True)
    effects = toy.attributed(0)
    assert any(abs(edge.weight) > 0.1 for edge in weights if edge.receiver is not None)
    for node in nodes:
        left = sum(edge.weight for edge in weights if edge.sender == node)
        assert left == pytest.approx(float(effects[node.point][:, node.place, node.unit].sum()), abs=1e-5)


def test_own_values_change_nothing_and_all_corrupted_is_the_corrupted_run(ioi: Features) -> None:
    nothing = ioi.nothing(by_position=False)
    everything = complement(nothing)
    lower = [everything[0], nothing[1]]
    none, whole, first = ioi.run([nothing, everything, lower])
    (spliced,) = ioi.run([everything], way=0.0)
    assert none == pytest.approx(ioi.own, abs=1e-9)
    assert spliced == pytest.approx(ioi.own, abs=1e-3)
    assert whole == pytest.approx(ioi.theirs, abs=1e-3)
    assert first == pytest.approx(ioi.theirs, abs=1e-3)  # what is above follows
    assert abs(ioi.own - ioi.theirs).min() > 5


def test_one_node_is_what_plain_hooks_give(ioi: Features) -> None:
    subject = ioi.subjects[0]
    latent = int(ioi.latents[0].abs().sum((0, 1)).argmax())
    moved = ioi.latents[0][..., latent, None] * subject.dictionary.decoder[latent]
    with torch.no_grad():
        logits = subject.model.run_with_hooks(
            ioi.into.tokens, return_type="logits", fwd_hooks=[(subject.hook, lambda value, hook: value + moved)]
        )
    wanted = ioi.reader.read(ioi.into.tokens, logits, range(ioi.n)).numpy()
    (found,) = ioi.run([mask_of([Node(0, latent, 0)], ioi.nothing(by_position=False))])
    assert found == pytest.approx(wanted, abs=1e-4)
    assert np.abs(wanted - ioi.own).max() > 1e-2


def test_gradients_are_what_latents_do_alone(ioi: Features) -> None:
    """F15: the strongest and others, patched one by one, and moved as far the other way."""
    effects = ioi.attributed(0)[0][..., :-1].sum((0, 1)) / ioi.n
    order = effects.abs().argsort(descending=True)
    chosen = [int(i) for i in (*order[:12], *order[20:80:5])]
    masks = [mask_of([Node(0, i, 0)], ioi.nothing(by_position=False)) for i in chosen]
    exact, turned = (ioi.run(masks, way).mean(1) - ioi.own.mean() for way in (1.0, -1.0))
    assert np.corrcoef(effects[chosen], exact)[0, 1] >= 0.95
    assert np.corrcoef(effects[chosen], turned)[0, 1] <= -0.95


def test_edges_are_finite_differences(ioi: Features) -> None:
    """A latent moved a little in plain hooks: how much a later one follows, times the metric's gradient there."""
    lower, upper = ioi.subjects
    gradient = Cut(ioi, [0, 1]).gradients[1]
    effects = [each[..., :-1].sum((0, 1)) for each in ioi.attributed(0)]
    senders, receivers = (
        [Node(point, int(i), 0) for i in effects[point].abs().topk(2).indices] for point in range(len(effects))
    )
    weights = {(e.sender, e.receiver): e.weight for e in edge_weights(ioi, [*senders, *receivers], by_position=False)}

    def worth(sender: Node, receiver: Node, way: float) -> float:
        moved = way * ioi.latents[0][..., sender.unit, None] * lower.dictionary.decoder[sender.unit]
        caught: list[torch.Tensor] = []
        hooks = [
            (lower.hook, lambda value, hook: value + moved),
            (upper.hook, lambda value, hook: caught.append(value)),
        ]
        with torch.no_grad():
            lower.model.run_with_hooks(ioi.into.tokens, return_type=None, stop_at_layer=23, fwd_hooks=hooks)
        active = encoded(upper, caught[0])[..., receiver.unit]
        return float((active * (gradient @ upper.dictionary.decoder[receiver.unit])).sum()) / ioi.n

    for sender in senders:
        for receiver in receivers:
            slope = (worth(sender, receiver, 0.05) - worth(sender, receiver, -0.05)) / 0.1
            assert weights[sender, receiver] == pytest.approx(slope, abs=2e-3, rel=0.02)
        assert (sender, None) in weights
        assert weights[sender, None] == 0  # everything goes through the later point
    assert max(abs(weights[s, r]) for s in senders for r in receivers) > 0.02


def test_the_circuit_of_a_real_behaviour(context: Context) -> None:
    """IG adds up, gradients agree with exact patching of one node, the circuit beats random latents."""
    found = call("feature_circuit", context, template="ioi", n=2, steps=6, nodes=24, top=10, sample=8)
    (point,) = found["points"]
    assert point["incomplete"] <= 0.15
    assert point["summed"] == pytest.approx(point["whole"], rel=0.15)
    assert found["controls"]["spliced"] == pytest.approx(1, abs=1e-4)
    assert found["controls"]["corrupted"] == pytest.approx(0, abs=1e-4)
    assert found["correlation"] >= 0.6
    assert found["gradient_correlation"] >= 0.7
    assert found["controls"]["sign_flipped"] <= -0.5
    assert found["controls"]["permuted"] < 0.4
    assert found["faithfulness"] > 3 * max(abs(each) for each in found["controls"]["random"])
    assert found["faithfulness"] > found["latents_alone"] > found["controls"]["errors_alone"]
    assert {edge["receiver"] for edge in found["edges"]} == {"logits"}
    assert len(found["pictures"]) == 4
    assert found["verdict"].startswith("24 nodes of ")


@pytest.mark.slow
def test_two_shipped_dictionaries(context: Context) -> None:
    found = call("feature_circuit", context, template="ioi", n=4, dictionaries=["l22-2304"], nodes=60, steps=12)
    assert [point["hook"] for point in found["points"]] == ["blocks.15.hook_resid_pre", LATER]
    assert all(point["incomplete"] <= 0.15 for point in found["points"])
    assert found["correlation"] >= 0.6
    assert found["faithfulness"] > max(found["controls"]["random"])
    senders = {edge["sender"][:3] for edge in found["edges"] if edge["receiver"] == "logits"}
    assert senders == {"L22"}  # what is below passes through it
    assert any(edge["sender"][:3] == "L15" and edge["receiver"][:3] == "L22" for edge in found["edges"])


@pytest.mark.parametrize(
    ("input", "said"),
    [
        ({"dictionaries": ["later", "later"]}, "Two dictionaries read the same hook point"),
        ({"dictionaries": ["no-such-folder"]}, "There is no dictionary 'no-such-folder'"),
        ({"threshold": 0.99, "steps": 1}, "lower the threshold"),
    ],
)
def test_what_cannot_be_done_is_said(context: Context, input: dict[str, Any], said: str) -> None:
    experiment = asyncio.run(run("feature_circuit", {"template": "ioi", "n": 1, **input}, context))
    assert said in str(experiment.error)


def test_bad_input_is_refused(context: Context) -> None:
    with pytest.raises(UserError, match="nodes"):
        validate(get_tool("feature_circuit"), {"template": "ioi", "nodes": 0})
    bare = Context(context.subject, context.ledger)
    with pytest.raises(ToolError, match="cannot be opened here"):
        bare.through("l22-2304")
