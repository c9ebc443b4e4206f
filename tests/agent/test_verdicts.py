"""What tests may not be made of: predictions that nothing can fail, support from noise, words against verdicts."""

from typing import Any

import pytest

from agent.inquiry.measures import disjoint, foregone, measures
from agent.inquiry.menu import TESTS
from agent.state import Foretold
from store.types import Comparison, Experiment, Judgement, Prediction
from tests.agent.agent_script import OTHER_PAIRS, PAIRS, QUESTION, acts, expect
from tests.agent.conftest import Commands
from tests.stub_llm import Stub
from tools.workbench.registry import get_tool


@pytest.fixture
def agent(llm: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setenv("GLOSSATOR_LLM_RETRIES", "0")
    llm.configure(behaviour="agent", acts=acts())
    return llm


# -- what may be foretold --------------------------------------------------------------------------------------------


def test_controls_and_what_the_input_settles_are_no_measures() -> None:
    offered = {path for names in TESTS.values() for name in names for path in measures(get_tool(name))}
    assert {"separated", "contrast", "low", "effect.effect", "curve.slope"} <= offered
    assert not [path for path in offered if "controls" in path]
    assert not offered & {"harvest_max", "n", "chance", "floor", "prompts", "strength", "effect.norm", "own.latent"}


@pytest.mark.parametrize(
    ("comparison", "threshold", "empty"),
    [
        (">=", 0.0, True), (">=", 1.0, False), (">=", 1.1, True), (">", 0.0, False), (">", 1.0, True), (">", -1, True),
        ("<", 0.0, True), ("<", 1.0, False), ("<", 1.1, True), ("<=", 0.0, False), ("<=", 1.0, True), ("<=", -1, True),
    ],
)  # fmt: skip
def test_a_threshold_must_leave_both_outcomes(comparison: str, threshold: float, empty: bool) -> None:
    assert foregone(Comparison(comparison), threshold, (0.0, 1.0)) is empty
    assert not foregone(Comparison(comparison), threshold, (None, None))


def foretold(comparison: str, threshold: float, measure: str = "low") -> Foretold:
    values: dict[str, Any] = {"id": "p", "hypothesis": "H1", "sentence": "s", "counterexample": False}
    return Foretold(**values, measure=measure, comparison=Comparison(comparison), threshold=threshold)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (foretold(">=", 0.5), foretold("<", 0.5), True),
        (foretold("<", 0.4), foretold(">", 0.5), True),
        (foretold(">", 0.5), foretold("<=", 0.5), True),
        (foretold(">=", 0.5), foretold("<=", 0.5), False),
        (foretold(">=", 0.4), foretold("<", 0.6), False),
        (foretold(">=", 0.4), foretold(">=", 0.6), False),
        (foretold("<", 0.4), foretold("<=", 0.6), False),
        (foretold(">=", 0.5), foretold("<", 0.5, "high"), False),
    ],
)
def test_rivals_differ_where_no_outcome_suits_both(one: Foretold, other: Foretold, apart: bool) -> None:
    assert disjoint(one, other) is disjoint(other, one) is apart


def exact(hypothesis: str, measure: str, comparison: str, threshold: float) -> dict[str, Any]:
    return {"hypothesis": hypothesis, "measure": measure, "comparison": comparison, "threshold": threshold}


def test_empty_predictions_go_back_and_do_not_tell_rivals_apart(world: Commands, agent: Stub) -> None:
    empty = [exact("H1", "separated", ">=", 0.0), exact("H2", "contrast", ">=", -1000)]
    both = [exact("H1", "separated", ">=", 0.4), exact("H2", "separated", "<", 0.6)]
    tests = [{"input": PAIRS, "expect": each} for each in (empty, both)]
    agent.configure(acts=acts(minimal_pairs=[*tests, {"input": OTHER_PAIRS, "expect": expect(H1="<", H2=">=")}]))
    world("ask", QUESTION)
    asked = agent.stats()["asked"]
    assert any(
        "separated >= 0 is true or false whatever is measured: separated lies from 0 up to 1" in a for a in asked
    )
    assert any("Still needed: a test of which two hypotheses expect outcomes of one measure" in a for a in asked)
    assert sorted(p.threshold for p in world.ledger.find(Prediction)) == [0.4, 0.5, 0.5, 0.6]


# -- what a test decides ---------------------------------------------------------------------------------------------

SCORE = {"value": 0.6, "low": 0.3, "high": 0.8, "chance": 0.5, "floor": None}
CHANGE = {"effect": {"effect": 0.6}, "clear": False}


@pytest.mark.parametrize(
    ("measure", "comparison", "threshold", "output", "held"),
    [
        ("low", ">=", 0.1, SCORE, None),
        ("value", ">=", 0.55, SCORE, None),
        ("value", ">=", 0.7, SCORE, False),
        ("value", "<", 0.55, SCORE, None),  # measured more, but no more than chance may give
        ("low", ">=", 0.1, SCORE | {"low": 0.55}, True),
        ("low", ">=", 0.1, SCORE | {"low": 0.55, "floor": 0.58}, None),
        ("low", "<", 0.5, SCORE | {"low": 0.55}, False),
        ("effect.effect", ">", 0.5, CHANGE, None),
        ("effect.effect", ">", 0.7, CHANGE, False),
        ("effect.effect", "<", 0.5, CHANGE, None),
        ("effect.effect", "<", -0.5, CHANGE, False),
        ("effect.effect", ">", 0.5, CHANGE | {"clear": True}, True),
        ("separated", ">=", 0.5, {"separated": 1.0, "low": 0.3}, True),
    ],
)
def test_what_is_not_clear_of_chance_or_controls_supports_nothing(
    measure: str, comparison: str, threshold: float, output: dict[str, Any], held: bool | None
) -> None:
    prediction = Prediction(
        hypothesis="h", tool="t", input={}, measure=measure, comparison=Comparison(comparison), threshold=threshold
    )
    run = Experiment(tool="t", version=1, subject="s", input={}, seed=0, output=output, seconds=0, device="cpu")
    judgement = Judgement.of(prediction, run)
    assert judgement.held is held
    assert judgement.value is not None
    assert ("not clear of chance or controls" in judgement.words) is (held is None)
