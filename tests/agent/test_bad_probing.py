"""What probing, elicitation and organisms cannot take, from the command line: one sentence, exit code 2, no traceback.

The tools' own tests have more of each; these say that a user meets a sentence and not a stack.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.agent.conftest import Commands
from tools.organisms.organism import SHIPPED
from tools.workbench.adapters import CONFIG, RECORD
from tools.workbench.directions import Direction, Directions
from tools.workbench.subject import Subject

GOOD = [f"The story is {word}" for word in ("wonderful", "great", "lovely", "perfect", "charming")]
BAD = [f"The story is {word}" for word in ("terrible", "awful", "dull", "boring", "horrible")]
TWENTY = {
    "positive": [f"{a}, {b}" for a in GOOD[:2] for b in GOOD],
    "negative": [f"{a}, {b}" for a in BAD[:2] for b in BAD],
}
PARIS = {"prompt": "The city of Rome is", "entity": "Paris"}
NOWHERE = {
    "name": "place",
    "templates": ["It lies in", "Where is it? In"],
    "facts": [{"entity": "A", "answers": ["B"]}],
}
QUESTIONS = ["red", "green", "blue", "white", "ultramarineish"]


@pytest.fixture
def real(run: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    return run


def called(run: Commands, tool: str, *more: str, **input: Any) -> str:
    """The sentence by which a call is refused: the last on stderr, after nothing but progress."""
    outcome = run("tool", "call", tool, json.dumps(input), *more)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    *before, sentence = outcome.err.strip().splitlines()
    assert all(line.startswith((f"{tool}: ", "\rLoading", "Loading")) for line in before if line.strip()), outcome.err
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("tool", "input", "said"),
    [
        (
            "train_probe",
            {"positive": GOOD * 5, "negative": []},
            "All 25 texts are positive: a probe needs texts of two",
        ),
        ("train_probe", {"positive": GOOD, "negative": BAD}, "There are 5 positive and 5 negative texts"),
        ("sparse_probe", {"positive": GOOD, "negative": BAD}, "give at least 20"),
        ("train_probe", {**TWENTY, "layers": [30]}, "Layer 30 does not exist"),
        ("label_knowledge", {"own": [NOWHERE]}, "does not hold its entity: write {entity} where it belongs"),
        ("hallucination_risk", {"texts": "Paris"}, "texts: it is no list, write [...]"),
        ("hallucination_risk", {"texts": [PARIS]}, "'Paris' is not in its text"),
        ("apply_probe", {"probe": "nothing", "texts": ["a"]}, "The workspace has no directions named 'nothing'"),
        ("find_manifold", {"items": QUESTIONS}, "' ultramarineish' is not one token of"),
        ("logit_lens_secret", {"words": ["gold", "ultramarineish"], "prompts": ["The secret"]}, "is not one token"),
        ("embedding_similarity", {"words": ["gold", "ultramarineish"], "prompts": ["The secret"]}, "is not one token"),
    ],
)
def test_refused(tool: str, input: dict[str, Any], said: str, real: Commands) -> None:
    assert said in called(real, tool, **input)


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ({"model": "another"}, {}, "is of another, not of"),
        ({}, {"layer": 3}, "reads layer 12, not 3: train one there"),
        ({"hook": "blocks.15.hook_resid_pre.latents"}, {}, "is of another dictionary's latents"),
    ],
)
def test_a_probe_of_something_else(
    change: dict[str, str], asked: dict[str, int], said: str, real: Commands, subject: Subject
) -> None:
    given = {"model": subject.name, "hook": "blocks.12.hook_resid_pre", "method": "test"} | change
    name = Directions(real.workspace / "directions").save(Direction(torch.eye(subject.d_model)[0], **given))
    assert said in called(real, "apply_probe", probe=name, texts=["a story"], **asked)


def test_labels_that_leak_are_said_and_nothing_is_clear(real: Commands) -> None:
    """Not refused, since a label's word may be what is to be read."""
    input = {"positive": [f"praise {text}" for text in TWENTY["positive"]], "negative": TWENTY["negative"]}
    input |= {"labels": ["praise", "blame"], "layers": [3], "estimator": "mean_difference"}
    outcome = real("tool", "call", "train_probe", json.dumps(input), "--json")
    assert outcome.code == 0
    assert "the label 'praise' stands in 10 of the praise texts" in outcome.json["output"]["verdict"]
    assert not outcome.json["output"]["clear"]


@pytest.mark.parametrize("tool", ["train_probe", "entity_knowledge", "label_knowledge", "prefill_attack"])
def test_activations_that_are_not_numbers(
    tool: str, real: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = subject.model.original_model.model.layers[5].mlp.down_proj.weight
    broken = weight.data.clone()
    broken[0, 0] = torch.nan
    monkeypatch.setattr(weight, "data", broken)
    input = {"train_probe": {**TWENTY, "layers": [9]}, "prefill_attack": {}}.get(
        tool, {"relations": ["city"], "limit": 10}
    )
    sentence = called(real, tool, **input)
    assert "not finite" in sentence
    assert "NaN" not in str(real.rows("select output from experiments"))


def hash_changed(record: Path, config: Path) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sha256": "0" * 64}))


def of_other_weights(record: Path, config: Path) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | {"base_sha256": "0" * 64}))


def of_another_base(record: Path, config: Path) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "owner/other"}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (hash_changed, "their hash is another"),
        (of_other_weights, "trained on other weights"),
        (of_another_base, "belongs to owner/other and not to"),
    ],
)
def test_an_organism_that_is_not_what_it_says(spoil: Callable[[Path, Path], None], said: str, run: Commands) -> None:
    copied = run.folder / "copied"
    copied.mkdir()
    for path in (SHIPPED / "suppressed-capital").iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    spoil(copied / RECORD, copied / CONFIG)
    assert said in called(run, "logit_lens", "--adapter", "copied", text="Lima: Peru. Osaka:", word=" Japan")


def test_an_empty_adapter_is_not_the_model_without_one(real: Commands) -> None:
    """As from a shell's variable that is not set: an audit of the bare model would find nothing."""
    outcome = real("audit", "--no-llm", "--adapter", "")
    assert (outcome.code, outcome.out) == (2, "")
    assert "adapter (--adapter) is wrong" in outcome.err
