"""Heads by their weights and by what they attend to: known ones are found, and none where none is."""

import asyncio
from typing import Any

import pytest
import torch

from store.ledger import Ledger
from tools.workbench.circuits import Factors, composition, reads, writes
from tools.workbench.context import Context
from tools.workbench.run import run
from tools.workbench.subject import Subject


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("heads") / "store.duckdb"))


def call(name: str, context: Context, **input: Any) -> dict[str, Any]:
    experiment = asyncio.run(run(name, input, context))
    assert experiment.error is None, experiment.error
    assert experiment.output is not None
    return experiment.output


def refusal(name: str, context: Context, **input: Any) -> str:
    experiment = asyncio.run(run(name, input, context))
    assert experiment.error is not None
    return experiment.error


def test_composition_of_matrices_written_by_hand() -> None:
    """A reader of exactly the plane that is written has 1 / sqrt(2) (two equal directions), of another plane 0."""
    e = torch.eye(16)
    writer = Factors(e[:, 2:4], e[4:6])
    assert composition(writer, Factors(e[:, 4:6], e[6:8])) == pytest.approx(2**-0.5)
    assert composition(writer, Factors(e[:, 4:5], e[6:7])) == pytest.approx(2**-0.5)
    assert composition(writer, Factors(e[:, 8:10], e[6:8])) == 0


def test_composition_equals_the_whole_matrices(subject: Subject) -> None:
    for way in ("q", "k", "v"):
        a, b = writes(subject, 16, 0), reads(subject, 18, 6, way)
        first, second = a.left.double() @ a.right.double(), b.left.double() @ b.right.double()
        whole = (first @ second).norm() / (first.norm() * second.norm())
        assert composition(a, b) == pytest.approx(float(whole), rel=1e-4)


def test_induction_heads_read_the_previous_token_head_by_their_keys(context: Context) -> None:
    for layer, head in ((18, 6), (17, 3)):
        output = call("composition_scores", context, layer=layer, head=head)
        assert output["top"][0]["label"] == "k from L16H0"
        assert output["top"][0]["value"] > 3 * output["controls"]["highest"]


def test_composition_scores_stand_beside_a_random_rotation(context: Context) -> None:
    output = call("composition_scores", context, layer=3, head=0)
    controls = output["controls"]
    assert controls["expected"] == pytest.approx(576**-0.5)
    assert controls["mean"] == pytest.approx(controls["expected"], rel=0.1)
    assert output["k"]["rows"] == ["L0", "L1", "L2"]
    assert output["top"][0]["value"] > controls["highest"]
    later = call("composition_scores", context, layer=28, head=0, role="writer")
    assert later["q"]["rows"] == ["L29"]
    assert "No head comes before" in refusal("composition_scores", context, layer=0, head=0)
    assert "heads 0 to 8" in refusal("composition_scores", context, layer=3, head=9)


def test_the_most_copying_and_the_most_suppressing_heads(context: Context) -> None:
    """L23H0 moves names, L24H4 suppresses copies: places 1 and among the last three of 270 heads."""
    mover = call("ov_circuit", context, layer=23, head=0)
    suppressor = call("ov_circuit", context, layer=24, head=4, words=[" Mary", " John"])
    assert mover["place"] <= 3
    assert mover["eigenvalues"] > 0.3 > -0.3 > suppressor["eigenvalues"]
    assert suppressor["place"] >= 268
    assert suppressor["controls"]["random_weights"] == pytest.approx(0.5, abs=0.1)
    assert [each["label"] for each in suppressor["readings"]] == [" Mary", " John"]
    assert all(each["own_rank"] > 45_000 for each in suppressor["readings"])
    assert "suppresses" in suppressor["verdict"]
    assert "layers 0 to 29" in refusal("ov_circuit", context, layer=30, head=0)
