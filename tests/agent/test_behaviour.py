"""A question that names no latent, investigated on the real model by a scripted LLM: from looking to a conclusion."""

import json
from pydoc_data.topics import topics
from typing import Any

import pytest

from agent.inquiry.investigable import check_question, named_latents
from store.errors import UserError
from store.types import Experiment, Hypothesis, Judgement, Prediction
from store.verify import verify
from tests.agent.conftest import Commands
from tests.stub_llm import Stub
from tools.workbench import doses
from tools.workbench.subject import Subject

QUESTION = "Does the model know the order of the days of the week?"
PROMPTS = ["Friday, Saturday, Sunday, Monday,", "On Sunday she slept, on Monday she worked, and on"]
NEXT = {"kind": "logit_difference", "up": [" Tuesday"], "down": [" Friday"]}


def expected(name: str, comparison: str, measure: str, threshold: float) -> dict[str, Any]:
    return {"hypothesis": name, "comparison": comparison, "measure": measure, "threshold": threshold}


@pytest.fixture
def real(run: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands on the real model, with a little text to harvest."""
    rows = [json.dumps({"text": topics[key][:600]}) for key in sorted(topics)[:10]]
    (run.folder / "text.jsonl").write_text("\n".join(rows))
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    monkeypatch.setattr(doses, "ROWS", 1)
    monkeypatch.setattr(doses, "WIDTH", 64)
    return run


def test_a_behaviour_is_investigated_by_changing_the_model(real: Commands, llm: Stub) -> None:
    """Predictions about controls are refused; what is not clear of its controls supports nothing, and that is said."""
    ablate = {"targets": [{"head": 2, "layers": [3]}], "prompts": PROMPTS, "metric": NEXT}
    dose = {"target": {"neuron": 7, "layers": [20]}, "costs": [0.1, 0.5], "prompts": PROMPTS, "metric": NEXT}
    known = [expected("H1", ">", "controls.no_edit.value", 0), expected("H2", "<=", "controls.no_edit.value", 0)]
    loss = [expected("H1", "<", "effect.effect", -5), expected("H2", ">=", "effect.effect", -5)]
    script = {
        "frame": {"about": "behaviour", "latent": None, "aim": "say what continues the week"},
        "latents_on_text": [{"text": "Monday, Tuesday"}, None],
        "enough": {},
        "state_hypotheses": {
            "hypotheses": ["head 2 of layer 3 and neuron 7 of layer 20 are what it knows the order by"],
            "dull": {"account": "frequency", "claim": "it expects the most frequent day of the week"},
        },
        "dose_response": [{"input": dose, "expect": [expected("H1", ">", "mean", 50)]}, None],
        "ablate": [{"input": ablate, "expect": known}, {"input": ablate, "expect": loss}],
        "finish": {"reading": "it is not that head"},
        "conclude": {"claims": [
            {"sentence": "It is not that head.", "hypothesis": "H1", "stance": "against", "evidence": ["E2", "E3"]},
            {"sentence": "The head does little.", "hypothesis": "H2", "stance": "for", "evidence": ["E3"]},
        ]},
    }  # fmt: skip
    llm.configure(behaviour="agent", acts=script)
    answered = real("ask", QUESTION, "--corpus", "text.jsonl", "--tokens", 1500, "--json")
    assert answered.code == 0, answered.err
    assert answered.json["reason"] == "concluded"
    claims = answered.json["claims"]
    told = [(claim["author"], claim["stance"], claim["conjecture"]) for claim in claims[:3]]
    assert told == [("llm", "against", False), ("llm", None, True), ("code", "against", False)]
    assert claims[3]["sentence"].endswith("was not decided by any test, so it is not excluded.")
    assert any("state a measure (effect.value, effect.effect," in text for text in llm.stats()["asked"])
    looked, dosed, ablated = real.ledger.find(Experiment)
    assert [looked.tool, dosed.tool, ablated.tool] == ["latents_on_text", "dose_response", "ablate"]
    for run, verdicts in ((dosed, ["False"]), (ablated, ["False", "None"])):
        assert run.error is None
        assert run.output is not None
        assert run.output["controls"]
        assert not run.output["clear"]
        held = [judgement.held for judgement in real.ledger.find(Judgement) if judgement.experiment == run.id]
        assert sorted(map(str, held)) == verdicts
    assert dosed.output is not None
    assert dosed.output["controls"]["other"].startswith("neuron ")
    assert all(p.created_at < dosed.created_at and not p.counterexample for p in real.ledger.find(Prediction))
    assert {h.about for h in real.ledger.find(Hypothesis)} == {"behaviour"}
    assert verify(real.ledger) == []


def test_a_question_that_cannot_be_investigated_is_refused_before_anything_runs() -> None:
    assert named_latents("compare latents 838 and #41 with feature 7 or latent 41") == [838, 41, 7]
    check_question("what does latent 41 do?", embedded=True)
    check_question("Who gets it in 'When Mary and John went to the store, John gave a drink to'?", embedded=True)
    check_question("does it know the order of weekdays?", embedded=False)
    for question, count in {"does it know the order of weekdays?": "no", "compare latents 3 and 4": "2"}.items():
        with pytest.raises(UserError, match=rf"one latent, or .*\(ioi, .*names {count} latents: ask"):
            check_question(question, embedded=True)
