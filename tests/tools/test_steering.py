"""The steering tools on the real model: known effects come out, controls do not, and what cannot be done is said."""

import asyncio
import json
from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch

from store.ledger import Ledger
from store.types import Experiment
from tests.tools.calling import output_of
from tests.tools.world import FakeLLM
from tools.dictionaries.load import load_subject
from tools.organisms.requests import requests
from tools.steering.orthogonalise_weights import without
from tools.workbench import costs, doses
from tools.workbench.context import Context
from tools.workbench.corpus import Corpus, Document
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.harvest import harvest
from tools.workbench.metrics import encode
from tools.workbench.orthogonal import orthogonalised
from tools.workbench.peers import unit_peer
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.run import run, validate
from tools.workbench.subject import Subject

GOOD = ("wonderful", "great", "excellent", "beautiful", "amazing", "perfect", "lovely", "brilliant", "good", "charming")
BAD = ("terrible", "awful", "horrible", "bad", "poor", "dull", "boring", "disgusting", "disappointing", "annoying")
OTHER_GOOD = ("fantastic", "superb", "nice", "fine", "pleasant", "incredible")
OTHER_BAD = ("dreadful", "ugly", "nasty", "weak", "unpleasant", "stupid")
TEMPLATE = "I thought the film was {}, and I"
SENTIMENT = {"kind": "logit_difference", "up": [" loved"], "down": [" hated"]}


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("steering")
    documents = tuple(Document(topics[key][:300], "topics") for key in sorted(topics)[:40])
    stored = harvest(subject, Corpus("topics", documents, "topics"), 4096, folder / "harvest")
    return Context(subject, Ledger(folder / "store.duckdb"), stored, FakeLLM(reply="x"))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def little_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strengths are searched on 63 tokens: the tests ask that a cost is hit, not what it is on more text."""
    monkeypatch.setattr(doses, "ROWS", 1)
    monkeypatch.setattr(doses, "WIDTH", 64)


@pytest.fixture(scope="module")
def latent(context: Context) -> int:
    """One that fires often on the harvest."""
    return int(context.need_harvest().stats().count.argsort()[-40])


@pytest.fixture(scope="module")
def sentiment(context: Context) -> Any:
    """The mean difference at layer 6 on the adjective, from another template than it is tested on."""
    good, bad = ([f"The story is {word}" for word in words] for words in (GOOD, BAD))
    return output_of("find_direction", context, layer=6, positive=good, negative=bad)


@pytest.fixture(scope="module")
def harm(context: Context) -> Any:
    """The mean difference between harmful and harmless requests at layer 19."""
    showing, other = (requests(harmful, held=False)[:8] for harmful in (True, False))
    return output_of("find_direction", context, layer=19, positive=showing, negative=other, chat=True)


def test_sentiment_is_found_beside_its_baselines(sentiment: Any, context: Context) -> None:
    assert sentiment.auroc == 1.0
    assert sentiment.controls.logistic >= 0.9
    assert sentiment.hook == "blocks.6.hook_resid_pre"
    assert context.directions.load(sentiment.direction).norm == pytest.approx(sentiment.norm)


def test_flipping_sentiment_reverses_the_class_gap_and_random_does_not(context: Context, sentiment: Any) -> None:
    """Sentiment (2310.15154), with adjectives and a template that the direction was not found on."""
    output = output_of(
        "flip_projection",
        context,
        direction=sentiment.direction,
        positions=[-4],
        positive=[TEMPLATE.format(word) for word in OTHER_GOOD],
        negative=[TEMPLATE.format(word) for word in OTHER_BAD],
        metric=SENTIMENT,
    )
    assert output.gap > 3
    assert output.gap_flipped < 0
    assert output.reversed
    moved = np.abs(2 * np.array(output.controls.randoms))
    assert len(moved) == 9
    assert moved.mean() < 0.1 * output.gap
    assert moved.max() < 0.2 * abs(output.gap_flipped - output.gap)
    assert output.controls.no_edit.effect == 0
    assert output.clear
    assert "clear of its controls" in output.verdict
    assert output.illusion is not None


def test_orthogonalised_weights_equal_directional_ablation(context: Context, harm: Any) -> None:
    """Ablating a direction and projecting it out of the weights are the same (2406.11717)."""
    prompts = [TEMPLATE.format(word) for word in (*OTHER_GOOD[:2], *OTHER_BAD[:2])]
    more = {"direction": harm.direction, "prompts": prompts, "metric": SENTIMENT}
    output = output_of("orthogonalise_weights", context, save=True, **more)
    assert output.tied
    assert output.from_ablation < 1e-3
    assert output.moved > 1
    assert output.controls.no_edit.effect == 0
    folder = context.ledger.store.path.parent / output.saved
    opened = load_subject(model=str(folder), dtype="float32")
    edit = Edit(operation="ablate", direction=harm.direction, layers="all", include_sinks=True)
    changes = prepare(context.subject, [edit], context.directions)
    tokens = opened.to_tokens(prompts[0])
    assert torch.equal(tokens, context.subject.to_tokens(prompts[0]))
    torch.testing.assert_close(opened.logits(tokens), context.subject.logits(tokens, changes), rtol=0, atol=1e-3)
    assert output.saved in output.verdict


def test_leaving_the_embeddings_tied_is_wrong(context: Context, harm: Any) -> None:
    """More than 1 off in some logit."""
    subject = context.subject
    edit = Edit(operation="ablate", direction=harm.direction, layers="all", include_sinks=True)
    changes = prepare(subject, [edit], context.directions)
    tokens = subject.to_tokens(TEMPLATE.format("nice"))
    before = subject.logits(tokens)
    tied = without(subject, torch.ones(subject.d_model))
    assert changes[0].read is not None
    tied.model = orthogonalised(subject.model, changes[0].read, untie=False)
    assert (tied.logits(tokens) - subject.logits(tokens, changes)).abs().max() > 1
    assert torch.equal(before, subject.logits(tokens)), "the subject itself stays as it is"


@pytest.mark.slow
def test_steering_writes_other_text_and_its_controls_are_there(context: Context, latent: int) -> None:
    edits = [{"operation": "add", "latent": latent, "strength": 150}]
    prompts = ["The weather today is", "My first dog was"]
    output = output_of("steer", context, edits=edits, prompts=prompts, tokens=8)
    plain = output.controls.no_edit
    assert plain.kl == 0
    assert [c.text for c in plain.continuations] != [c.text for c in output.steered.continuations]
    assert output.steered.kl > 0.1
    assert output.steered.perplexity > plain.perplexity
    assert output.controls.other.startswith("latent ")
    assert output.controls.random_direction.kl > 0
    assert output_of("steer", context, edits=edits, prompts=prompts, tokens=8) == output, "the seed decides"


def test_doses_hit_their_costs_and_the_response_grows(context: Context, sentiment: Any) -> None:
    prompts = [TEMPLATE.format(word) for word in ("okay", "long", "short", "new")]
    target = {"direction": sentiment.direction}
    output = output_of("dose_response", context, target=target, costs=[0.01, 0.04], prompts=prompts, metric=SENTIMENT)
    for dose, cost in zip(output.doses, (0.01, 0.04), strict=True):
        assert dose.cost == pytest.approx(cost, rel=0.1)
    assert output.doses[1].effect.effect > output.doses[0].effect.effect > 0
    assert output.curve.slope > 0
    assert output.curve.low is not None
    assert output.curve.low > 0
    random = output.controls.random_direction[-1]
    assert abs(random.effect.effect) < output.doses[1].effect.effect
    assert random.strength == output.doses[1].strength


def test_ablating_and_clamping_a_latent_move_its_own_activation(context: Context, latent: int) -> None:
    prompts = [topics[key][:60] for key in sorted(topics)[:2]]
    metric = {"kind": "latent", "latent": latent}
    gone = output_of("ablate", context, targets=[{"latent": latent}], prompts=prompts, metric=metric)
    held = output_of("clamp", context, targets=[{"latent": latent}], value=50, prompts=prompts, metric=metric)
    before = gone.effect.value - gone.effect.effect
    assert before > 0
    assert gone.effect.value < 0.5 * before
    assert held.effect.value > before
    assert gone.effect.norm > 0
    assert gone.controls.random_direction.norm == pytest.approx(gone.effect.norm, rel=1e-3), "the control is as long"


def test_neurons_and_heads_have_peers_of_their_layer(context: Context) -> None:
    prompts = ["The capital of France is", "When Mary and John went to the shop, John gave a drink to"]
    head = output_of("ablate", context, targets=[{"head": 0, "layers": [23]}], prompts=prompts)
    assert head.controls.other.startswith("head ")
    neuron = output_of("clamp", context, targets=[{"neuron": 5, "layers": [28]}], value=4, prompts=prompts)
    assert neuron.controls.other.startswith("neuron ")
    assert neuron.effect.norm > 0
    for output in (head, neuron):
        assert output.controls.random_active.norm == pytest.approx(output.effect.norm, rel=0.05), "of equal norm"
    assert head.controls.other != "head 0"


def test_a_dose_that_is_not_chosen_yet_has_a_peer(context: Context) -> None:
    (change,) = prepare(
        context.subject, [Edit(operation="add", neuron=7, layers=(20,), strength=0.0)], context.directions
    )
    (moved,), other = unit_peer(context, [change], encode(context.subject, ["The capital of France is"]))
    assert other != 7
    assert moved.length == pytest.approx(1.0)


def test_effects_of_steering_on_what_is_written(context: Context, latent: int) -> None:
    output = output_of("steering_effects", context, target={"latent": latent}, cost=1.0, prompts=4, tokens=8)
    assert output.cost == pytest.approx(1.0, rel=0.1)
    assert output.own.latent == latent
    assert output.raised[0].change >= output.raised[-1].change > 0
    assert min(output.controls.no_edit, output.controls.random_direction, output.controls.random_active) > 0


@pytest.mark.slow
def test_a_targeted_vector_is_built_and_saved(context: Context, latent: int) -> None:
    output = output_of("sae_ts_vector", context, latent=latent, vectors=4, prompts=4, tokens=8, cost=1.0)
    assert context.directions.load(output.direction).hook == context.subject.hook
    assert -1 <= output.cosine <= 1
    assert output.found.strength > 0
    assert output.controls.no_edit.strength == 0


def test_selection_grades_candidates_and_says_why_none_passed(context: Context) -> None:
    """The embedded model hardly refuses, and sentiment is no behaviour: the filters must say so, not fail."""
    showing, other = ([f"The film is {word}" for word in words[:8]] for words in (GOOD, BAD))
    input = {"showing": showing, "other": other, "tokens": [" not"], "layers": [4, 28], "chat": False}
    output = output_of("select_direction", context, **input)
    assert output.direction is None
    assert "none of the 2 candidates passed, because" in output.reason
    assert "depth" in output.candidates[1].failed
    assert context.directions.load(output.best_added).norm == pytest.approx(
        next(c.norm for c in output.candidates if c.induced == max(each.induced for each in output.candidates))
    )


def test_a_replay_takes_the_saved_direction_and_finds_the_same(context: Context, sentiment: Any) -> None:
    input = {"targets": [{"direction": sentiment.direction}], "prompts": ["A nice day", "An ugly day"]}
    first, again = (asyncio.run(run("ablate", input, context)) for _ in range(2))
    assert first.output == again.output
    assert first.key == again.key
    assert first.controls == first.output["controls"]
    assert context.ledger.get(Experiment, first.id) == first


@pytest.mark.parametrize(
    ("tool", "input", "reason"),
    [
        ("ablate", {"targets": [{"latent": 3}], "prompts": ["  "]}, "A prompt is empty"),
        ("ablate", {"targets": [{"latent": 3}], "prompts": ["word " * 9000]}, "reads at most 8,192"),
        ("ablate", {"targets": [{"head": 3, "layers": [99]}], "prompts": ["a b"]}, "Layer 99 does not exist"),
        ("ablate", {"targets": [{"latent": 3, "positions": [9]}], "prompts": ["a b"]}, "Position 9 does not exist"),
        ("clamp", {"targets": [{"latent": 3}], "value": 1e9, "prompts": ["a b"]}, "at most"),
        ("steer", {"edits": [{"operation": "add", "latent": 3, "strength": 1e9}], "prompts": ["a b"]}, "at most"),
        (
            "ablate",
            {"targets": [{"latent": 3}], "prompts": ["a"], "metric": {"kind": "probability", "up": ["antidisest"]}},
            "is not one token",
        ),
        ("ablate", {"targets": [{"direction": "feedbeef"}], "prompts": ["a b"]}, "no directions named"),
        ("dose_response", {"target": {"head": 1, "layers": [3]}, "prompts": ["a b"], "metric": {}}, "A head has no"),
        ("find_direction", {"positive": ["a b"] * 4, "negative": ["a b"] * 4}, "do not differ"),
        ("find_direction", {"positive": ["a"], "negative": ["b"]}, "give 4 of each"),
        ("flip_projection", {"direction": "abcd", "positive": ["a"], "negative": [], "metric": {}}, None),
        ("select_direction", {"showing": ["a"] * 9, "other": ["b"] * 9, "tokens": ["I"], "layers": [31]}, "Layer 31"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_in_the_ledger(
    context: Context, tool: str, input: dict[str, Any], reason: str | None
) -> None:
    found = get_tool(tool)
    if reason is None:
        with pytest.raises(Exception, match="cannot take that input"):
            validate(found, input)
        return
    with pytest.raises(ToolError, match=reason):
        found.function(validate(found, input), context)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), "much"])
def test_a_strength_that_is_no_number_never_reaches_the_model(context: Context, strength: object) -> None:
    edits = [{"operation": "add", "latent": 3, "strength": strength}]
    with pytest.raises(Exception, match=r"steer cannot take that input.*number"):
        validate(get_tool("steer"), {"edits": edits, "prompts": ["a b"]})


def test_the_greatest_strength_allowed_gives_finite_numbers_or_one_sentence(context: Context) -> None:
    most = int(99 * context.subject.layer_norms[context.subject.layer_of(context.subject.hook)])
    input = {"targets": [{"latent": 3}], "value": most, "prompts": ["A nice day", "An ugly day"]}
    found = asyncio.run(run("clamp", input, context))
    assert found.error or json.dumps(found.output, allow_nan=False)


@pytest.fixture
def steady(context: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which a pass takes 20 ms and each of its tokens 0.7 ms, however busy this one is."""
    clock = iter([0.0, 0.0, 0.0, 0.0256, 0.0, 0.1992])
    monkeypatch.setattr(costs, "perf_counter", lambda: next(clock))
    costs.pace.cache_clear()
    yield
    costs.pace.cache_clear()


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("tool", "input", "field", "few", "many"),
    [
        ("sae_ts_vector", {"latent": 1}, "vectors", 8, 800),
        ("steering_effects", {"target": {"latent": 1}}, "tokens", 8, 80),
        ("steer", {"edits": [{"operation": "ablate", "latent": 1}], "prompts": ["a b"]}, "tokens", 4, 400),
        ("ablate", {"targets": [{"latent": 1}]}, "prompts", ["a b"], ["a b " * n for n in range(1, 40)]),
        ("find_direction", {"negative": ["a b"]}, "positive", ["a"] * 4, ["a " * n for n in range(1, 200)]),
        ("select_direction", {"showing": ["a b"], "other": ["b c"], "tokens": ["I"]}, "layers", [1], list(range(30))),
        ("dose_response", {"target": {"latent": 1}, "prompts": ["a b"], "metric": {}}, "costs", [0.1, 1], [0.1, 1] * 6),
        ("score_intervention", {"latent": 1, "text": "it"}, "tokens", 8, 80),
        ("task_vector", {}, "pairs", [["a", "b"]] * 20, [["a", "b"]] * 200),
        ("orthogonalise_weights", {"direction": "abcd", "prompts": ["a b"]}, "save", False, True),
    ],
)
def test_a_larger_run_is_said_to_take_longer(
    context: Context, tool: str, input: dict[str, Any], field: str, few: Any, many: Any
) -> None:
    found = get_tool(tool)
    assert found.estimate is not None
    short, long = (found.estimate(validate(found, {**input, field: value}), context) for value in (few, many))
    assert 0 < short < long / 1.5


@pytest.mark.slow
def test_an_intervention_is_told_by_a_judge_who_sees_it(context: Context, latent: int, monkeypatch: Any) -> None:
    """An oracle knows the steered texts, a constant judge nothing; both are asked about the same texts."""
    from tools.labelling.score_intervention import Input, continued

    input = Input(latent=latent, text="it", positives=8, tokens=8, cost=1.0)
    monkeypatch.setattr(context, "llm", FakeLLM())
    items, strength, other = continued(input, context)
    assert strength > 0
    assert {item.kind: sum(i.kind == item.kind for i in items) for item in items} == {
        "steered": 8, "unedited": 3, "random direction": 3, "another latent": 2,
    }  # fmt: skip
    steered = {item.text for item in items if item.positive}
    monkeypatch.setattr(context, "llm", FakeLLM(lambda t, e, snippet: 5.0 if snippet in steered else -5.0))
    told = output_of("score_intervention", context, **input.model_dump())
    assert told.value > 0.9
    assert told.controls.other == other
    monkeypatch.setattr(context, "llm", FakeLLM(lambda *_: 1.0))
    blind = output_of("score_intervention", context, **input.model_dump())
    assert blind.value == 0.5
    assert "not clear" in blind.verdict
