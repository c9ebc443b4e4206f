"""`glossator ask` by an LLM without tool calls: its one form of question, its words, its replies that lead nowhere."""

import re

import pytest

from agent.inquiry.small import FEWEST, RIVAL, asks_more
from store.types import Experiment, Hypothesis, Investigation, LLMCall
from store.verify import verify
from tests.agent.agent_script import HELD, SEVENTH, SILENT, SMALL_QUESTION, small_acts
from tests.agent.conftest import Commands
from tests.stub_llm import Stub
from tests.tools.world import COLOUR


@pytest.fixture
def small(agent: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as an LLM without tool calls."""
    monkeypatch.setenv("GLOSSATOR_AGENT_TOOL_CALLS", "false")
    agent.configure(acts=small_acts())
    return agent


def test_a_small_llm_concludes_in_three_replies(world: Commands, small: Stub) -> None:
    """Who picks the words sees the hypothesis and the words, none of which was shown; the level of each test is set
    before it by how many there were."""
    answered = world("ask", SMALL_QUESTION, "--json")
    assert answered.code == 0, answered.err
    right, wrong = world.ledger.find(Experiment, tool="minimal_pairs")
    assert [(c["sentence"], c["stance"], c["evidence"], c["author"]) for c in answered.json["claims"]] == [
        ("It fires on every seventh word.", "for", [right.id], "llm"),
        (
            'The hypothesis "it fires on every seventh word" passed 1 of 1 registered predictions (test 1 of 2: '
            f"p {right.output['p']:.2g}, 0.025 at most).",
            "for", [right.id], "code",
        ),
        (
            'The hypothesis "it fires on words of one syllable" failed 1 of 1 registered predictions (test 2 of 2: '
            f"p {wrong.output['p']:.2g}, 0.0083 at most).",
            "against", [wrong.id], "code",
        ),
        (
            f'The dull hypothesis "{RIVAL}" failed 1 of 1 registered predictions (test 1 of 2: '
            f"p {right.output['p']:.2g}, 0.025 at most).",
            "against", [right.id], "code",
        ),
    ]  # fmt: skip
    causes = {pair["cause"] for pair in right.input["pairs"]}
    words = causes | {pair["instead"] for pair in right.input["pairs"]}
    assert len(causes) >= FEWEST
    assert causes <= set(SEVENTH)
    assert not (words - causes) & set(SEVENTH)
    assert {pair["cause"] for pair in wrong.input["pairs"]} == set(SILENT)
    looked, examples = world.ledger.find(Experiment)[:2]
    assert (looked.tool, examples.tool) == ("firing_words", "top_examples")
    first, second, third = world.ledger.find(LLMCall)
    told = first.messages[-1]["content"]
    assert f"Question: {SMALL_QUESTION}" in told
    assert all(f"<<{word}>>" not in told for word in causes)
    assert not causes & {each["word"] for each in looked.output["words"]}
    for picking in (second, third):
        assert picking.template == "investigate_choose.v1"
        assert picking.messages[-1]["content"].startswith("Kind: ")
        assert "E1" not in "".join(message["content"] for message in picking.messages)
    assert set(re.findall(r'"(\w+)"', second.messages[-1]["content"])) >= words
    assert "Kind: every seventh word\n" in second.messages[-1]["content"]
    assert small.stats()["requests"] == 3
    assert sum(len(message["content"]) for message in first.messages) < 6000  # characters, some 1,500 tokens
    assert verify(world.ledger) == []
    assert not world.ledger.find(Investigation)[0].native


def test_hypotheses_that_hold_together_are_not_told_apart(world: Commands, small: Stub) -> None:
    small.configure(acts=small_acts(minimal_pairs=[{"fits": [*HELD, "to"]}, {"fits": [*HELD, "moon"]}]))
    answered = world("ask", SMALL_QUESTION, "--json")
    assert [claim["stance"] for claim in answered.json["claims"]] == ["for", "for", "for", "for", "against", None]
    last = answered.json["claims"][-1]
    assert (last["conjecture"], last["author"]) == (True, "code")
    assert last["sentence"].startswith("2 hypotheses held, each by itself: no test told them apart")


def test_few_words_are_no_test(world: Commands, small: Stub) -> None:
    """A latent whose words were all shown: nothing is tested, and that is said."""
    answered = world("ask", f"does ablating latent {COLOUR} make the model sadder?", "--json")
    assert answered.code == 3, answered.err
    assert answered.json["reason"] == "no new words"
    answers, *rest, seen = answered.json["claims"]
    assert answers["sentence"].startswith(f"Answered is no more than what latent {COLOUR} fires on")
    assert any(claim["sentence"] == "No minimal pair was tested." for claim in rest)
    assert seen["sentence"].startswith("Seen: 3 words make it fire as a rule")
    assert small.stats()["requests"] == 1
    assert verify(world.ledger) == []


@pytest.mark.parametrize(
    ("question", "more"),
    [
        ("what does latent 41 do?", False),
        ("On which tokens does the feature #41 fire?", False),
        ("What makes latent 41 fire", False),
        ("does ablating latent 41 make the model sadder?", True),
        ("what does ablating latent 41 do?", True),
        ("what does latent 41 do to the logits?", True),
    ],
)
def test_a_small_llm_knows_one_kind_of_question(question: str, more: bool) -> None:
    assert asks_more(question) is more


def test_a_small_llm_refines_what_did_not_stand(world: Commands, small: Stub) -> None:
    """What was not tested, for no word that was offered was picked, is replaced by another hypothesis."""
    tests = [{"fits": ["moon"] * 5}, {"fits": SILENT}]
    refine = {"of": "H1", "claim": "every seventh of the words"}
    small.configure(acts={"refine": refine} | small_acts(minimal_pairs=tests))
    answered = world("ask", SMALL_QUESTION, "--json")
    told = small.stats()["asked"]
    verdicts = "H1 untested. H2 refuted by E3. H3 (dull) untested. It fired on "
    assert verdicts in told[3]
    assert set(told[3].partition(verdicts)[2].partition(";")[0].split(", ")) <= set(SEVENTH)
    assert told[3].endswith("Refine H1.")
    (test,) = world.ledger.find(Experiment, tool="minimal_pairs")
    assert test.input["level"] == pytest.approx(0.025)
    assert answered.json["reason"] == "no new words", "the few of this world were tried"
    assert [h.claim for h in world.ledger.find(Hypothesis)][-1] == "it fires on every seventh of the words"
    assert verify(world.ledger) == []


def test_a_small_llm_that_repeats_itself_is_not_asked_on(world: Commands, small: Stub) -> None:
    refine = {"of": "H1", "claim": "every seventh word, such as po"}
    small.configure(acts={"refine": refine} | small_acts(minimal_pairs={"fits": SILENT}))
    ended = world("ask", SMALL_QUESTION, "--json")
    assert (ended.code, ended.json["reason"]) == (3, "no other hypothesis")
    assert small.stats()["requests"] == 3 + 2


def test_what_was_never_tested_is_not_concluded(world: Commands, small: Stub) -> None:
    """A small LLM that picks no word: the end names the limit, and what was seen is all that is claimed."""
    small.configure(acts=small_acts() | {"minimal_pairs": {"fits": ["nothing"] * 5}})
    ended = world("ask", SMALL_QUESTION, "--json")
    assert ended.code == 3
    assert ended.json["reason"] in ("no new information", "unusable replies")
    *untested, seen = ended.json["claims"]
    assert all(claim["conjecture"] for claim in untested)
    assert untested[2]["sentence"].endswith("was not decided by any test, so it is not excluded.")
    assert untested[3]["sentence"] == "No minimal pair was tested."
    assert "words make it fire as a rule" in seen["sentence"]
    assert seen["evidence"]
    assert small.stats()["requests"] < 12
