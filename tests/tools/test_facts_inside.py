"""Where a fact is read from, what is known both ways, what makes the model sure, and whether it contradicts itself."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prompts.ask import Answer
from prompts.errors import NoAnswer, Unparseable
from prompts.providers import Role
from tests.tools.calling import answered_by, call, refusal
from tools.probing import bidirectional_check, consistency_pairs
from tools.probing.entity_edits import steered
from tools.probing.facts import spot
from tools.probing.sources import by_source, first_token
from tools.workbench.components import decompose
from tools.workbench.context import Context
from tools.workbench.directions import Directions
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.run import estimate
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_scale, readout

TEMPLATE = "The city of {entity} is located in the country of"


def test_sources_add_up_to_what_heads_add(subject: Subject) -> None:
    """Against the heads' own outputs, computed without sources."""
    up, down = first_token(subject, " France"), first_token(subject, " Italy")
    found = by_source(subject, TEMPLATE, ["Paris", "Addis Ababa"], [up, up], [down, down])
    assert found.off < 1e-4
    tokens = torch.tensor([spot(subject, TEMPLATE.format(entity="Paris"), "Paris").tokens])
    direction, _ = readout(subject, torch.tensor([up]), torch.tensor([down]))
    last: list[torch.Tensor] = []
    written, _ = decompose(subject, tokens, direction, also=[(subject.end, lambda value: last.append(value[:, -1]))])
    heads = written.heads / norm_scale(subject, last[0][:, None])
    torch.testing.assert_close(found.groups[0].sum(-1), heads[0], atol=1e-4, rtol=0)


def test_swapping_the_subject_turns_its_part_and_not_the_relation_s(context: Context) -> None:
    found = call("dla_by_source", context)
    groups = {group["label"]: group for group in found["groups"]}
    about, relation = groups["subject"], groups["relation"]
    assert found["controls"]["off"] < 1e-4
    assert about["plain"] > 0
    assert about["low"] > 2 * about["unrelated"]
    assert about["swapped"] < 0 < about["effect"]
    assert about["plain_swapped"] < 0.6 * about["plain"]
    assert relation["plain_swapped"] == pytest.approx(relation["plain"], rel=0.3)
    assert abs(relation["swapped"] - relation["effect"]) < 0.25 * (about["effect"] - about["swapped"])
    assert found["clear"]
    assert any(head["kind"] == "subject" for head in found["heads"])
    same = [{"subject": name, "answer": " France"} for name in ("Paris", "Lyon", "Nice", "Lille")]
    assert "the same answer" in refusal("dla_by_source", context, facts=same)


def test_uncertainty_neurons_are_measured_as_the_whole_model_does(context: Context, subject: Subject) -> None:
    """An entropy neuron set to its usual value by an edit of the model itself gives the same change."""
    prompt = "The capital of France is the city of"
    found = call("uncertainty_neurons", context, prompts=[prompt], n=4, neurons=[830])
    own = next(neuron for neuron in found["neurons"] if neuron["label"] == "L29N830")
    assert own["unread"] > 0.6
    edit = Edit(operation="clamp", neuron=830, layers=(29,), strength=own["usual"])
    tokens = subject.to_tokens(prompt)
    changes = prepare(subject, [edit], Directions(Path("nowhere")))

    def entropy(logits: torch.Tensor) -> float:
        p = logits[0, -1].double().softmax(-1)
        return float(-(p * p.log()).sum())

    change = entropy(subject.logits(tokens, changes)) - entropy(subject.logits(tokens))
    assert own["entropy"] == pytest.approx(change, abs=2e-3)
    assert abs(found["neurons"][0]["entropy"]) >= abs(own["entropy"])
    assert "neurons 0 to 1535" in refusal("uncertainty_neurons", context, prompts=[prompt], neurons=[9999])


PAIRS = [{"a": [f"Person {i}"], "b": [f"owner of Castle {chr(65 + i)}{i}"]} for i in range(12)]
WAYS = {"forward": ["{entity} is the"], "reverse": ["The {entity} is called"]}


@pytest.mark.parametrize("both", [False, True])
def test_a_model_that_knows_one_way_alone_is_found_out(
    context: Context, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    def replies(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[str]:
        texts = [subject.tokenizer.decode(list(ids[1:])) for ids in prompts]
        found = []
        for text in texts:
            pair = next(p for p in PAIRS if f"{p['a'][0]} " in text or p["b"][0] in text)
            forwards = text.startswith("Person")
            found.append(pair["b"][0] if forwards else pair["a"][0] if both else "Nobody")
        return found

    monkeypatch.setattr(bidirectional_check, "replies", replies)
    found = call("bidirectional_check", context, pairs=PAIRS, **WAYS)
    assert found["forward"]["accuracy"] == 1
    assert found["forward"]["exchanged"] == 0
    assert found["reverse"]["accuracy"] == float(both)
    assert found["reversal"] is not both


def test_prompts_about_one_pair_are_no_more_pairs(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four wordings of the same question say what one says, and as surely; knowing some of them counts in part."""

    def replies(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[str]:
        texts = [subject.tokenizer.decode(list(ids[1:])) for ids in prompts]
        return [
            next((p["b"][0] for p in PAIRS[:6] if text.startswith(f"{p['a'][0]} is the") and knows(text)), "Nobody")
            for text in texts
        ]

    def knows(text: str) -> bool:
        return all(word not in text for word in unknown)

    unknown: list[str] = []
    monkeypatch.setattr(bidirectional_check, "replies", replies)
    ways = [f"{{entity}} is the {word}" for word in ("one", "real", "true", "old")]
    one, four = (
        call("bidirectional_check", context, pairs=PAIRS, forward=forward, reverse=["The {entity} is"])
        for forward in (ways[:1], ways)
    )
    assert (one["forward"]["n"], one["reverse"]["n"], one["forward"]["accuracy"]) == (12, 6, 0.5)
    for way in ("forward", "reverse"):
        assert all(four[way][key] == one[way][key] for key in ("n", "accuracy", "low", "high"))
    assert four["p"] == one["p"]
    unknown.append("real")
    part = call(
        "bidirectional_check", context, pairs=PAIRS, forward=ways, reverse=["The {entity} is"], known_only=False
    )
    assert (part["forward"]["n"], part["forward"]["accuracy"]) == (12, 0.375)


def test_pairs_are_needed(context: Context) -> None:
    assert "There is one pair" in refusal("bidirectional_check", context, pairs=PAIRS[:1], **WAYS)


class Asked:
    """An LLM that answers comparisons as a function of the question; None: what cannot be read."""

    def __init__(self, answer: Callable[[str], bool | None]) -> None:
        self.endpoints = {role: SimpleNamespace(model="stub") for role in Role}
        self.answer = answer

    async def ask_many(
        self, role: Role, template: str, values: Sequence[Mapping[str, Any]], schema: Any
    ) -> list[Answer | NoAnswer]:
        found: list[Answer | NoAnswer] = []
        for each in values:
            said = self.answer(each["question"])
            parsed = None if said is None else schema(reasoning="because", answer="yes" if said else "no")
            found.append(Unparseable("no") if parsed is None else Answer("call", "", parsed, None, False))
        return found


HEIGHTS = {f"tower {name}": at for at, name in enumerate("ABCDEFGH")}
TOWERS = [
    {"x": x, "y": y, "than": "higher than", "holds": HEIGHTS[x] > HEIGHTS[y]}
    for x in HEIGHTS
    for y in HEIGHTS
    if x < y and (HEIGHTS[x] + HEIGHTS[y]) % 2
]


def truth(question: str) -> bool:
    x, y = sorted((name for name in HEIGHTS if name in question), key=question.find)
    return HEIGHTS[x] > HEIGHTS[y]


@pytest.mark.parametrize(
    ("answer", "flagged", "accuracy"), [(lambda q: True, 1.0, 0.5), (lambda q: False, 1.0, 0.5), (truth, 0.0, 1.0)]
)
def test_who_always_says_yes_is_flagged_and_who_tells_the_truth_is_not(
    context: Context, answer: Callable[[str], bool], flagged: float, accuracy: float
) -> None:
    answered_by(context, Asked(answer))
    found = call("consistency_pairs", context, comparisons=TOWERS, of="llm")
    assert (found["asked"], found["n"]) == ("stub", len(TOWERS))
    assert found["flagged"] == flagged
    assert found["accuracy"] == accuracy
    assert found["controls"]["by_bias"] == (1.0 if flagged else 0.5)
    assert found["rows"][0]["reason"] == "because"


@pytest.mark.parametrize(("lean", "forms"), [(0.6, 1), (0.7, 3), (0.2, 4)])
def test_what_a_lean_alone_would_give_is_what_drawing_by_it_gives(lean: float, forms: int) -> None:
    yes = np.random.default_rng(0).random((50_000, 2, forms)) < lean
    side = np.sign(yes.mean(-1) - 0.5)
    drawn = float((side[:, 0] * side[:, 1] > 0).mean())
    assert consistency_pairs._alike_by(lean, forms) == pytest.approx(drawn, abs=0.01)


def test_what_cannot_be_read_is_counted_and_never_an_answer(context: Context) -> None:
    answered_by(context, Asked(lambda q: None if "Would" in q else truth(q)))
    found = call("consistency_pairs", context, comparisons=TOWERS, of="llm")
    assert found["unparsed"] == 2 * len(TOWERS)
    assert found["flagged"] == 0
    answered_by(context, Asked(lambda q: None))
    assert "none of" in refusal("consistency_pairs", context, comparisons=TOWERS, of="llm")
    assert "does not hold its entities" in refusal("consistency_pairs", context, of="llm", forms=["Is {x} big?"])


def test_the_subject_is_asked_the_same_way(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency_pairs, "replies", lambda subject, prompts, n: ["Yes, it is."] * len(prompts))
    found = call("consistency_pairs", context, comparisons=TOWERS)
    assert (found["asked"], found["flagged"]) == (context.subject.name, 1.0)


@pytest.mark.parametrize(
    "name",
    [
        "label_knowledge",
        "hallucination_risk",
        "entity_knowledge",
        "steer_entity",
        "dla_by_source",
        "uncertainty_neurons",
        "bidirectional_check",
        "consistency_pairs",
    ],
)
def test_every_tool_says_how_long_it_takes(context: Context, name: str) -> None:
    input = {"prompts": ["The capital of France is"]} if name == "uncertainty_neurons" else {}
    seconds = asyncio.run(estimate(name, input, context))
    assert seconds is not None
    assert 0 < seconds < 7200


def test_each_prompt_is_steered_at_its_own_entity(subject: Subject) -> None:
    """Prompts of different length written together are steered as each is alone; elsewhere nothing is added."""
    names = ["Paris", "Addis Ababa", "Kota Kinabalu"]
    places = [spot(subject, TEMPLATE.format(entity=name), name) for name in names]
    assert len({len(place.tokens) for place in places}) > 1
    vector = subject.dictionary.decoder[7] * 0.7 * subject.layer_norms[15]
    attention: list[float] = []
    together = steered(subject, places, 5, vector, True, [(17, 3)], attention)
    assert together == [steered(subject, [place], 5, vector, True, [], [])[0] for place in places]
    assert together != steered(subject, places, 5, None, True, [], [])
    assert len(attention) == 3
    pattern = subject.value_at("blocks.17.attn.hook_pattern", torch.tensor([places[0].tokens]))[0, 3, -1]
    plain: list[float] = []
    steered(subject, places[:1], 1, None, True, [(17, 3)], plain)
    assert plain[0] == pytest.approx(float(pattern[places[0].entity[0] : places[0].last + 1].sum()), abs=1e-5)
