"""A gate whose truth is planted: what it does, where, and by which path."""

import pytest

from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.tiny import in_context
from tools.workbench.context import Context
from tools.workbench.subject import Subject

GATE = {"neuron": 0, "layers": [0]}
SAYS = {"kind": "logit_difference", "up": [" red"], "down": [" blue"]}


@pytest.fixture(scope="module")
def toy(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("in_context")
    return Context(in_context(subject.tokenizer, str(folder)), Ledger(folder / "store.duckdb"))


@pytest.mark.parametrize(("tail", "holds"), [("river bank", True), ("river dog", False), ("dog cow", False)])
def test_a_planted_gate_matters_in_its_context_and_for_its_words_alone(toy: Context, tail: str, holds: bool) -> None:
    """The model says "red" where the context and the two words are there, and never without its gate (2311.00863). All
    of it goes through the next layer's neurons, which know the words."""
    inside, outside = [f"all {tail} cat"] * 2, [f"{word} {tail} cat" for word in ("green", "cow")]
    found = call("conditional_effect", toy, gate=GATE, inside=inside, outside=outside, metric=SAYS)
    height = found["inside"]["intact"]
    assert (height > 3) is holds
    assert holds or height == pytest.approx(0, abs=1e-3)
    assert found["outside"]["intact"] == pytest.approx(0, abs=1e-3)
    assert found["inside"]["ablated"] == pytest.approx(0, abs=1e-3)
    assert found["outside"]["effect"] == pytest.approx(0, abs=1e-3)
    assert found["interaction"] == pytest.approx(-height, abs=1e-3)
    assert found["clear"] is holds
    assert found["paths_inside"]["direct"] == pytest.approx(0, abs=1e-3)
    assert found["paths_inside"]["total"] == pytest.approx(-height, abs=1e-3)
    assert found["paths_inside"]["downstream"] == pytest.approx(-height, rel=0.05, abs=1e-3)
    assert found["controls"]["other"] == "neuron 1"
    assert found["controls"]["random_active"] == pytest.approx(0, abs=1e-3)
