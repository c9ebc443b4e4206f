"""Task vectors on the real model: what examples leave at the last token, and that it is graded beside its controls."""

from typing import Any

import pytest
import torch

from store.ledger import Ledger
from tools.steering.task_vector import Input, task_vector
from tools.workbench.context import Context
from tools.workbench.metrics import observe
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject
from tools.workbench.tasks import put, queries

CAPITALS = (
    "France Paris,Germany Berlin,Italy Rome,Spain Madrid,Japan Tokyo,China Beijing,Russia Moscow,Egypt Cairo,"
    "Greece Athens,Portugal Lisbon,Austria Vienna,Poland Warsaw,Sweden Stockholm,Norway Oslo,Cuba Havana,"
    "Ireland Dublin,Canada Ottawa,Peru Lima,Turkey Ankara,Hungary Budapest,Iran Tehran,Iraq Baghdad,India Delhi,"
    "Kenya Nairobi,Finland Helsinki,Belgium Brussels,Denmark Copenhagen,Thailand Bangkok,Syria Damascus,Lebanon Beirut"
)
PAIRS = [pair.split() for pair in CAPITALS.split(",")]


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("tasks") / "store.duckdb"))


def test_examples_leave_a_vector_that_calls_for_such_answers_and_the_control_says_how_little_of_the_task_it_is(
    context: Context,
) -> None:
    """The model names capitals after examples. Their vector makes the right one many times likelier in prompts without
    any, which nothing as long does; but so does that of exchanged answers, which hold the kind and not the task."""
    found = task_vector(Input(pairs=PAIRS, layers=(3, 21), prompts=8), context)
    assert found.layer == 21
    assert found.few_shot > 0.6
    assert found.controls.no_edit.accuracy == found.controls.no_edit.effect == 0
    assert found.patched.low is not None
    assert found.patched.low > max(2.0, found.controls.random_direction.effect, found.controls.random_active.effect)
    assert found.controls.shuffled.effect > found.patched.effect / 2
    assert not found.clear
    assert "not clear of its controls" in found.verdict
    saved = context.directions.load(found.direction)
    assert (saved.hook, saved.norm) == ("blocks.21.hook_resid_pre", pytest.approx(found.norm))


def test_putting_back_what_was_there_changes_nothing(context: Context) -> None:
    asked = queries(context, PAIRS[:1])
    (vector,) = context.subject.residual(torch.tensor(asked.prompts))[:, -1]
    layer = context.subject.layer_of(context.subject.hook)
    before = observe(context, asked.prompts, asked.metric)
    assert put(context, asked, layer, vector).values == pytest.approx(before.values, abs=1e-4)
    assert put(context, asked, layer, 0 * vector).values != pytest.approx(before.values, abs=0.1)


@pytest.mark.parametrize(
    ("input", "reason"),
    [
        ({"layers": [30]}, "Layer 30 does not exist"),
        ({"shots": 15}, "too few for 15 examples"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(context: Context, input: dict[str, Any], reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        task_vector(Input.model_validate({"pairs": PAIRS, **input}), context)
