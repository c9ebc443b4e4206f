"""Edges: exact on the real model, estimates exact where the model is linear, circuits that do what they say."""

import asyncio
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.test_attribution import DIFFERENCE, cancelling
from tests.tools.tiny import tiny
from tools.workbench import unfinished
from tools.workbench.context import Context
from tools.workbench.edge_scores import edge_scores, input_gradients
from tools.workbench.edges import Edges, gap_of, only, projected, without
from tools.workbench.pairs import Contrast, aligned, batch, measure
from tools.workbench.pruning import in_order, prune
from tools.workbench.random_circuits import random_edges, random_nodes, rewired
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.repair import direct_effects, of_edges
from tools.workbench.run import run, validate
from tools.workbench.subject import Subject

acdc_module = import_module("tools.patching.acdc")


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("edges") / "store.duckdb"))


@pytest.fixture(scope="module")
def ioi(context: Context) -> Edges:
    kept = aligned(context.subject, Contrast(template="ioi", n=2)).same_places(context.subject).kept
    return Edges(context, batch(kept), measure(context.subject, kept, "logit_difference"))


@pytest.fixture
def toy(subject: Subject, tmp_path: Any) -> Edges:
    """The count of 2 reaches the logit by the residual stream, and half of it is taken back by the MLP of layer 1."""
    context = Context(tiny(subject.tokenizer, str(tmp_path)), Ledger(tmp_path / "store.duckdb"))
    return Edges(context, cancelling(context.subject, 0.5), DIFFERENCE)


def mask_of(edges: Edges, *names: str) -> torch.Tensor:
    mask = torch.zeros_like(edges.exists)
    for name in names:
        mask[edges.graph.parse(name)] = True
    return mask


def test_all_edges_corrupted_are_the_corrupted_run(ioi: Edges) -> None:
    nothing, everything = ioi.run([torch.zeros_like(ioi.exists), ioi.exists])
    assert nothing == pytest.approx(ioi.own, abs=1e-4)
    assert everything == pytest.approx(ioi.theirs, abs=1e-3)


def test_an_edge_is_what_plain_hooks_give(ioi: Edges) -> None:
    """The query of L24H4 from a residual stream in which L23H3 alone is as on the corrupted prompt."""
    subject, model = ioi.subject, ioi.subject.model
    z: list[torch.Tensor] = []
    q: list[torch.Tensor] = []
    looks = [("blocks.23.attn.hook_z", lambda value, hook: z.append(value.clone()))]
    with torch.no_grad():
        for run_of in (ioi.clean, ioi.corrupted):
            model.run_with_hooks(run_of.tokens, return_type=None, fwd_hooks=looks)
        moved = (z[1] - z[0])[:, :, 3] @ model.blocks[23].attn.W_O[3]
        model.run_with_hooks(
            ioi.clean.tokens,
            return_type=None,
            fwd_hooks=[
                ("blocks.24.hook_resid_pre", lambda value, hook: value + moved),
                ("blocks.24.attn.hook_q", lambda value, hook: q.append(value.clone())),
            ],
        )

        def put(value: torch.Tensor, hook: object) -> torch.Tensor:
            value = value.clone()
            value[:, :, 4] = q[0][:, :, 4]
            return value

        logits = model.run_with_hooks(ioi.clean.tokens, fwd_hooks=[("blocks.24.attn.hook_q", put)])[:, -1]
    plain = logits.gather(-1, ioi.batch.answer[:, None]) - logits.gather(-1, ioi.batch.other[:, None])
    found = ioi.run([mask_of(ioi, "L23H3->L24H4.q")])[0]
    assert found == pytest.approx(plain[:, 0].double().numpy(), abs=1e-3)
    assert abs(found - ioi.own).min() > 0.5
    assert subject.n_heads == 9


def test_scores_into_a_receiver_add_up_to_that_of_its_input(ioi: Edges) -> None:
    scores = edge_scores(ioi)
    gradients = input_gradients(ioi, [0, 1])
    residuals = [torch.stack([r[:, ioi.start :] for r in each.residuals]) for each in (ioi.corrupted, ioi.clean)]
    change = residuals[0] - residuals[1]  # [layers, n, s, d] entering each layer
    names = [str(receiver) for receiver in ioi.graph.receivers]
    for name in ("L20H3.q", "L20KV1.k", "L20KV2.v"):
        row = names.index(name)
        expected = float((gradients[row] * change[20]).sum()) / 2
        assert float(scores[row].sum()) == pytest.approx(expected, abs=1e-4)
    heads = [i for i, name in enumerate(names) if name.startswith("L20") and name != "L20MLP"]
    below = _gradient_through_attention(ioi, 20)
    assert gradients[heads].sum(0) == pytest.approx(below, abs=1e-4)  # no part of the attention's gradient is missing


def _gradient_through_attention(edges: Edges, layer: int) -> torch.Tensor:
    from tools.workbench.gradients import Graph

    name = f"blocks.{layer}.ln1.hook_in"
    graph = Graph(edges.subject, edges.clean.tokens, edges.reader, [0, 1], [name])
    return graph.gradients()[name][:, edges.start :]


def test_scores_are_exact_where_the_model_is_linear(toy: Edges) -> None:
    names = ("L0H0->logits", "L0H0->L1MLP", "L1MLP->logits", "L0H0->L0MLP", "L0H1->logits")
    exact = (toy.run([mask_of(toy, name) for name in names]) - toy.own).mean(1)
    assert exact == pytest.approx([-2, 1, 1, 0, 0], abs=2e-2)
    for steps in (1, 3):
        scores = edge_scores(toy, steps)
        assert [float(scores[toy.graph.parse(name)]) for name in names] == pytest.approx(list(exact), abs=2e-2)
    assert projected(toy.subject, 0, "q", torch.ones(1, 1, 2, 8)).shape == (1, 1, 2, 4)


def test_a_circuit_of_the_best_edges_does_what_random_ones_do_not(context: Context) -> None:
    found = call("edge_attribution", context, template="ioi", n=2, steps=1, shares=[0.01], top=8, sample=4)
    (size,) = found["sizes"]
    assert size["edges"] == 706
    assert size["faithfulness"] > 0.4 > max(abs(size["random"]), abs(size["rewired"])) + 0.2
    assert found["controls"]["no_edge"] == pytest.approx(0, abs=1e-4)
    assert found["correlation"] > 0.6
    assert any(row["edge"] == "L23H3->logits" for row in found["top"])
    assert len(found["map"]["rows"]) == 30
    assert len(found["map"]["columns"]) == 10
    again = call("circuit_faithfulness", context, template="ioi", n=2, edges=found["names"][:1], subsets=1)
    assert again["faithfulness"] == pytest.approx(0, abs=1e-3)  # an edge that nothing reaches


def test_random_edges_join_the_embedding_to_the_logits(ioi: Edges) -> None:
    graph, rng = ioi.graph, np.random.default_rng(0)
    for count in (1, 30, 700):
        mask = random_edges(graph, count, rng)
        assert int(mask.sum()) == count
        assert not (mask & ~graph.exists).any()
        reached = {"embed"}  # in the order of the computation, by what they read
        for at, name in enumerate(graph.senders):
            head = name.partition("H")
            read = [
                row
                for row, each in enumerate(graph.receivers)
                if str(each) in (name, f"{name}.q")
                or ("H" in name and str(each)[:-2] == f"{head[0]}KV{int(head[2]) // 3}")
            ]
            if any(graph.senders[sender] in reached for row in read for sender in mask[row].nonzero()[:, 0].tolist()):
                reached.add(graph.senders[at])
        idle = [name for at, name in enumerate(graph.senders) if mask[:, at].any() and name not in reached]
        assert not idle, "what sends is reached from the embedding"
        assert {graph.senders[at] for at in mask[-1].nonzero()[:, 0].tolist()} & reached
    assert int(random_edges(graph, int(graph.exists.sum()), rng).sum()) == int(graph.exists.sum())


def test_rewired_edges_are_as_many_into_each_receiver(ioi: Edges) -> None:
    rng = np.random.default_rng(0)
    circuit = random_edges(ioi.graph, 700, rng)
    drawn, again = (rewired(ioi.graph, circuit, rng) for _ in range(2))
    assert (drawn.sum(1) == circuit.sum(1)).all()
    assert not (drawn & ~ioi.exists).any()
    assert (drawn != again).any()
    assert (rewired(ioi.graph, ioi.exists, rng) == ioi.exists).all()


def test_random_nodes_are_of_the_same_layers(ioi: Edges) -> None:
    graph, rng = ioi.graph, np.random.default_rng(0)
    asked = [graph.node(name) for name in ("L23H0", "L23H3", "L5H1", "L9MLP", *(f"L2H{head}" for head in range(9)))]
    drawn = [graph.senders[at] for at in random_nodes(graph, asked, rng)]
    assert len(set(drawn)) == len(asked)
    assert not {graph.senders[at] for at in asked} & set(drawn)
    layers = [name[1:].replace("MLP", "H").split("H")[0] for name in drawn]
    assert layers.count("23") == 2
    assert layers.count("5") == 1
    assert layers.count("1") + layers.count("3") == 9  # of layer 2 all are taken
    assert next(name for name in drawn if "MLP" in name) in ("L8MLP", "L10MLP")


def test_what_belongs_to_every_circuit_is_no_part(context: Context) -> None:
    found = call("circuit_faithfulness", context, template="ioi", n=2, nodes=["embed", "L9MLP", "L23H3"], subsets=0)
    assert found["size"] == 1
    assert [each["name"] for each in found["elements"]] == ["L23H3"]
    assert any("not counted" in warning for warning in found["warnings"])
    refused = asyncio.run(run("circuit_faithfulness", {"template": "ioi", "n": 1, "nodes": ["embed"]}, context))
    assert "belong to any circuit" in str(refused.error)


def test_heads_make_a_circuit(context: Context) -> None:
    heads = ["L23H0", "L23H3", "L20H0", "L17H4", "L29H1"]
    found = call("circuit_faithfulness", context, template="ioi", n=2, nodes=heads, subsets=2)
    assert found["faithfulness"] > 0.4
    assert found["without"] < 0.4
    assert max(found["controls"]["random"]) < 0.3
    losses = {each["name"]: each["loss"] for each in found["elements"]}
    assert max(losses, key=lambda name: losses[name]) == "L23H3"
    assert found["incompleteness"] >= 0
    lost = found["self_repair"]
    assert lost["total"] == pytest.approx((found["without"] - 1) * (found["clean"] - found["corrupted"]), abs=1e-3)
    assert lost["total"] == pytest.approx(lost["direct"] + lost["downstream"] + lost["norm"], abs=1e-3)
    assert lost["direct"] < -1


def test_what_is_no_edge_is_said(ioi: Edges) -> None:
    with pytest.raises(ToolError, match="goes backwards"):
        ioi.graph.parse("L24H4->L23H3.q")
    with pytest.raises(ToolError, match="There is no edge"):
        ioi.graph.parse("L24H4->L25H9.q")
    with pytest.raises(ToolError, match="There is no node"):
        ioi.graph.node("L24H9")
    with pytest.raises(ToolError, match="nothing to be faithful"):
        gap_of(np.ones(2), np.ones(2))
    with pytest.raises(UserError, match="nodes or edges"):
        validate(get_tool("circuit_faithfulness"), {"template": "ioi"})
    assert without(ioi.exists, [0]).sum() == ioi.exists.sum() - only(ioi.exists, [0]).sum()


def test_a_loss_is_its_direct_part_what_follows_and_the_norm(ioi: Edges) -> None:
    parts = [ioi.graph.node(name) for name in ("L23H0", "L24H4", "L29H1", "L29MLP")]
    found = of_edges(ioi, [ioi.graph.sent_by(part) for part in parts])
    assert found.total == pytest.approx(found.direct + found.downstream + found.norm, abs=1e-3)
    assert found.downstream[3] == pytest.approx(0, abs=1e-4)  # nothing comes after the last MLP
    assert np.abs(found.downstream[2]).min() > 0.1  # it comes after the last heads
    assert found.total[1].min() > 0  # without the copy suppressor the right name is likelier
    assert np.abs(found.norm).max() > 0.01


def test_direct_paths_add_up_to_the_whole_stream(ioi: Edges, context: Context) -> None:
    each, whole = direct_effects(ioi)
    assert each.sum(0) == pytest.approx(whole, abs=1e-3)
    found = call("path_patching", context, template="ioi", n=2, senders=["L23H3", "L24H4", "L5H2"])
    assert [row["sender"] for row in found["top"]] == ["L23H3", "L24H4", "L5H2"]
    assert found["top"][0]["change"] == pytest.approx(found["top"][0]["frozen"], abs=0.3)  # the norm hardly moves
    assert found["controls"]["no_sender"] == pytest.approx(0, abs=1e-4)
    drawn = found["controls"]["drawn"]
    assert len(set(drawn) - {"L23H3", "L24H4", "L5H2"}) == len(found["controls"]["randoms"]) == 9
    gap = found["corrupted"] - found["clean"]
    exact = each[[ioi.graph.node(name) for name in drawn]].mean(1) / gap
    assert found["controls"]["randoms"] == pytest.approx(exact, abs=0.02)  # the norm hardly moves
    assert found["controls"]["random_heads"] < 0.2 < abs(found["top"][0]["effect"])
    assert found["controls"]["frozen_sum"] == pytest.approx(found["controls"]["frozen_whole"], abs=1e-3)


def test_a_path_through_mlps_is_what_plain_hooks_give(ioi: Edges) -> None:
    """L20H0 to the query of L23H0: heads frozen to clean in a first pass, the query it finds put into a second."""
    model, sender = ioi.subject.model, ioi.graph.node("L20H0")
    z: dict[tuple[int, int], torch.Tensor] = {}
    q: list[torch.Tensor] = []

    def keep(value: torch.Tensor, at: tuple[int, int]) -> None:
        z[at] = value.clone()

    def freeze(value: torch.Tensor, layer: int) -> torch.Tensor:
        value = z[0, layer].clone()
        if layer == 20:
            value[:, :, 0] = z[1, 20][:, :, 0]
        return value

    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        value = value.clone()
        value[:, :, 0] = q[0][:, :, 0]
        return value

    with torch.no_grad():
        for at, each in enumerate((ioi.clean, ioi.corrupted)):
            names = [(f"blocks.{n}.attn.hook_z", lambda value, hook, k=(at, n): keep(value, k)) for n in range(20, 23)]
            model.run_with_hooks(each.tokens, return_type=None, fwd_hooks=names)
        frozen = [(f"blocks.{n}.attn.hook_z", lambda value, hook, n=n: freeze(value, n)) for n in range(20, 23)]
        look = ("blocks.23.attn.hook_q", lambda value, hook: q.append(value.clone()))
        model.run_with_hooks(ioi.clean.tokens, return_type=None, fwd_hooks=[*frozen, look])
        logits = model.run_with_hooks(ioi.clean.tokens, fwd_hooks=[("blocks.23.attn.hook_q", put)])[:, -1]
    plain = (logits.gather(-1, ioi.batch.answer[:, None]) - logits.gather(-1, ioi.batch.other[:, None]))[:, 0]
    row, column = ioi.graph.parse("L20H0->L23H0.q")
    mask = torch.zeros_like(ioi.exists)
    mask[row, [sender, *(at for at, name in enumerate(ioi.graph.senders) if name.endswith("MLP"))]] = True
    found = ioi.run([mask], sent=ioi.through_mlps([column]))[0]
    assert found == pytest.approx(plain.double().numpy(), abs=1e-3)
    assert np.abs(found - ioi.run([mask_of(ioi, "L20H0->L23H0.q")])[0]).min() > 0.1


TRUE = {"embed->L0KV0.v", "L0H0->logits", "L0H0->L1MLP", "L1MLP->logits"}


def pruned(edges: Edges, tau: float, absolute: bool = False, budget: int | None = None) -> set[str]:
    """The kept edges of a search, taken up again after each `budget`."""
    order, kept, decided = in_order(edges.exists), [], 0
    while decided < len(order):
        found = prune([edges], order, tau, -1, absolute, budget, kept, decided)
        decided = found.decided
        kept = [place for place in order if found.kept[place]]
    return {edges.graph.edge(*place) for place in kept}


def test_a_search_returns_exactly_the_edges_there_are(toy: Edges) -> None:
    assert pruned(toy, 0.05, absolute=True) == TRUE
    assert pruned(toy, 0.05, absolute=True, budget=7) == TRUE  # stopped and gone on with
    assert pruned(toy, 0.05) == {"embed->L0KV0.v", "L0H0->logits"}  # the MLP does harm: signed, it goes
    counts = [len(pruned(toy, tau, True)) for tau in (-np.inf, 0.05, 1.5, np.inf)]
    assert counts[0] == int(toy.exists.sum())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_a_search_that_was_stopped_goes_on(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after five edges and called again, it tries the others alone and finds what it finds in one go."""
    asked = {"template": "ioi", "n": 1, "metric": "logit_difference", "tau": 0.3, "candidates": 8}
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    began: list[int] = []
    searched = acdc_module.prune

    def seen(*arguments: Any) -> Any:
        began.append(arguments[7])
        return searched(*arguments)

    def stop(done: int, total: int, note: str = "") -> None:
        assert note == "pruning edges"
        if done == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(acdc_module, "prune", seen)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run("acdc", asked, replace(context, progress=stop)))
    again = call("acdc", context, **asked)
    whole = call("acdc", context, **asked)
    assert began == [0, 5, 0]
    assert {**again, "verdict": ""} == {**whole, "verdict": ""}
    assert again["tests"] == 8


def test_a_search_ends_at_its_budget_and_goes_on(context: Context) -> None:
    asked = {"template": "ioi", "n": 1, "metric": "logit_difference", "tau": 0.3, "candidates": 8}
    first = call("acdc", context, **asked, budget=4)
    assert (first["decided"], first["tests"], first["faithfulness"]) == (4, 4, None)
    assert "not decided" in first["verdict"]
    rest = call("acdc", context, **asked, decided=first["decided"], kept=first["kept"])
    assert rest["decided"] == 8
    assert set(first["kept"]) <= set(rest["kept"])
    assert "L23H3->logits" in rest["kept"]
    assert rest["controls"]["nothing"] == pytest.approx(0, abs=1e-3)
    assert np.isfinite(rest["faithfulness"])
