"""What tests may not be made of: predictions that nothing can fail, support from noise, words against verdicts."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field

from agent.inquiry.measures import disjoint, foregone, measures, ranges
from agent.inquiry.menu import TESTS
from agent.state import Foretold
from prompts.providers import Role
from store.types import Claim, Comparison, Conclusion, Experiment, Judgement, Prediction
from store.verify import verify
from tests.agent.agent_script import OTHER_PAIRS, PAIRS, QUESTION, acts, expect
from tests.agent.conftest import Commands
from tests.store.examples import llm_call
from tests.stub_llm import Stub
from tools.workbench import registry
from tools.workbench.registry import ToolOutput, get_tool

# -- what may be foretold --------------------------------------------------------------------------------------------


def test_controls_and_what_the_input_settles_are_no_measures() -> None:
    offered = {path for names in TESTS.values() for name in names for path in measures(get_tool(name))}
    assert {"separated", "contrast", "low", "effect.effect", "curve.slope"} <= offered
    assert not [path for path in offered if "controls" in path]
    assert "size" in measures(get_tool("steering_effects"))
    assert "size" not in measures(get_tool("circuit_faithfulness"))
    assert ranges(get_tool("circuit_faithfulness"))["low"] == (None, None)
    lens = {path for path in measures(get_tool("logit_lens_secret")) if path.startswith("grade.")}
    assert lens == {f"grade.{name}" for name in ("accuracy", "low", "high", "beyond", "said", "uttered", "lacking")}
    assert not offered & {
        "clean",
        "strongest.layer",
        "pairs",
        "harvest_max",
        "n",
        "chance",
        "floor",
        "prompts",
        "strength",
        "effect.norm",
        "own.latent",
    }


class Bounded(ToolOutput):
    share: float = Field(ge=0, le=1)
    chance: float


def test_a_field_says_what_it_can_be() -> None:
    assert ranges(replace(get_tool("minimal_pairs"), output=Bounded)) == {"share": (0, 1)}


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


def test_the_more_tests_the_less_chance_may_have_done(world: Commands, agent: Stub) -> None:
    """The level is set by code, whatever the LLM says; a result that chance gives more often decides nothing, and the
    same pairs are no new test for another level."""
    three = {"pairs": PAIRS["pairs"][:3], "level": 0.9}
    tests = [{"input": three, "expect": expect(H1=">=", H2="<")}, {"input": PAIRS, "expect": expect(H1=">=", H2="<")}]
    refine = {"reading": "not yet", "of": "H1", "claim": "it fires on colours"}
    agent.configure(acts={"refine": [refine, None]} | acts(minimal_pairs=[tests[0], tests[0], tests[1]]))
    assert world("ask", QUESTION).code == 3, "nothing was decided"
    made = world.ledger.find(Experiment, tool="minimal_pairs")
    assert [test.input["level"] for test in made] == pytest.approx([0.05 / 2, 0.05 / 6])
    assert [(test.output or {})["p"] for test in made] == pytest.approx([1 / 20, 1 / 56])
    assert {judgement.held for judgement in world.ledger.find(Judgement)} == {None}
    (conclusion,) = world.ledger.find(Conclusion)
    assert conclusion.reason == "untested"
    assert any(claim.sentence == "No test on minimal pairs was clear of chance." for claim in conclusion.claims)
    assert any("with that input was run as E3" in text for text in agent.stats()["asked"])
    assert not any('"level"' in text for text in agent.stats()["asked"])
    assert sum(0.05 / (n * (n + 1)) for n in range(1, 1000)) < 0.05


# -- what may be concluded -------------------------------------------------------------------------------------------

FIRING = {"input": {"text": "ba red da"}, "expect": [exact("H1", "firing", ">=", 1), exact("H2", "firing", ">=", 1)]}


def test_without_a_minimal_pair_nothing_is_concluded(
    world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another test is decided, and the dull rival survives it: code says both."""
    monkeypatch.setitem(TESTS, "latent", ("latents_on_text",))
    script = acts(latents_on_text=FIRING, conclude={"claims": [{"sentence": "Colours.", "evidence": []}]})
    agent.configure(acts={name: given for name, given in script.items() if name != "minimal_pairs"} | {"enough": {}})
    monkeypatch.setattr("agent.nodes.LOOKS_NATIVE", 0)  # what the LLM would see is not known yet
    ended = world("ask", QUESTION, "--json")
    assert ended.code == 3, ended.err
    assert ended.json["reason"] == "untested"
    code = [claim["sentence"] for claim in ended.json["claims"] if claim["author"] == "code"]
    assert code[0] == 'The hypothesis "it fires on names of colours" passed 1 of 1 registered predictions.'
    assert code[1].endswith("passed 1 of 1 registered predictions, so it is not excluded.")
    assert code[2] == "No minimal pair was tested."
    assert verify(world.ledger) == []


def test_a_test_that_is_not_clear_is_read_but_concludes_nothing(
    world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.types.facts.clear", lambda output: False)
    agent.configure(acts=acts(conclude={"claims": [{"sentence": "Colours.", "evidence": ["E3"]}]}))
    ended = world("ask", QUESTION, "--json")
    assert (ended.code, ended.json["reason"]) == (3, "untested")
    seen, *code = ended.json["claims"]
    assert (seen["stance"], seen["conjecture"]) == (None, False)
    assert all(claim["conjecture"] for claim in code[:3])
    assert any("in E3: undecided" in text for text in agent.stats()["asked"])
    assert agent.stats()["requests"] < 10


def test_words_cannot_overrule_a_verdict(world: Commands, agent: Stub) -> None:
    """A run that decided is cited with hypothesis and stance only; a conjecture may not contradict a verdict either."""
    plain = {"sentence": "H2 is right.", "hypothesis": None, "stance": None, "evidence": ["E3"]}
    bare = {"sentence": "Position it is.", "hypothesis": "H2", "stance": "for", "evidence": []}
    agent.configure(acts=acts(conclude={"claims": [plain, bare]}))
    answered = world("ask", QUESTION, "--json")
    first, second = answered.json["claims"][0], answered.json["claims"][1:]
    assert (first["sentence"], first["conjecture"]) == ("H2 is right.", True)
    assert [(claim["author"], claim["stance"]) for claim in second] == [("code", "for"), ("code", "against")]
    asked = " ".join(agent.stats()["asked"])
    assert "Claim 1 cites E3, which decided predictions: name their hypothesis and a stance" in asked
    assert "Claim 2 speaks for a hypothesis one of whose predictions failed" in asked
    assert verify(world.ledger) == []
    (conclusion,) = world.ledger.find(Conclusion)
    test = world.ledger.find(Experiment, tool="minimal_pairs")[0].id
    forged = Claim(sentence="H2 is right.", evidence=(test,))
    world.ledger.append(Conclusion(**{**dict(conclusion), "claims": (forged,)}))
    assert any("which decided predictions" in problem.what for problem in verify(world.ledger))


# -- what the LLM reads, and what it may start -----------------------------------------------------------------------


def test_a_native_llm_reads_figures_ids_and_what_may_follow(world: Commands, agent: Stub) -> None:
    assert world("ask", QUESTION).code == 0
    asked = agent.stats()["asked"][-1]
    profile, _, test = world.ledger.find(Experiment)
    assert f"E1 latent_profile {profile.id[:8]}: fires on" in asked
    assert "; next: top_examples, minimal_pairs)" in asked
    assert f"E3 minimal_pairs {test.id[:8]}: separates 5 of 5" in asked
    assert "(separated 1, low 0.5655, high 1, contrast " in asked
    assert "harvest_max" not in asked


def test_the_time_of_llm_calls_is_estimated_from_the_ledger(
    world: Commands, agent: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls took 50 s on average, so that seven will take 350 s."""
    registry.tools()
    dear = replace(registry.get_tool("minimal_pairs"), asks=(Role.JUDGE,), calls=lambda input, context: 7)
    monkeypatch.setitem(registry._tools, "minimal_pairs", dear)
    world.ledger.append(*(llm_call(role="judge", model="stub", seconds=seconds) for seconds in (40.0, 60.0)))
    world("ask", QUESTION)
    assert not world.ledger.find(Experiment, tool="minimal_pairs")
    assert any("minimal_pairs would take about 350 s, more than the 300 s" in text for text in agent.stats()["asked"])
