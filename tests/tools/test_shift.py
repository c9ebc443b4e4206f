"""SHIFT: a planted linear problem with a known answer, judges of known skill, the embedded model, and bad input."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from prompts.ask import Answer
from prompts.providers import Role
from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.world import BANK, COLOUR, COLOURS, EVEN, FILLERS, N_LATENTS, FakeLLM, planted_context
from tools.workbench.context import Context
from tools.workbench.readout import effects, graded, read_texts, trained
from tools.workbench.registry import get_tool
from tools.workbench.run import run, validate
from tools.workbench.subject import Subject

TASK = "whether a colour is named"
Texts = list[dict[str, str]]


class Judge(FakeLLM):
    """Says of a feature by its marked tokens whether it has to do with the task."""

    def __init__(self, relevant: Callable[[str], float | None]) -> None:
        super().__init__()
        self.relevant = relevant

    async def ask(self, role: Role, template: str, values: Mapping[str, Any], schema: Any = None, **_: Any) -> Answer:
        self.asked.append((template, values))
        margin = self.relevant(" ".join(values["snippets"]))
        if margin is None:
            return Answer("call", "perhaps", None, None, False)
        return Answer("call", "1", None, {"1": margin / 2, "0": -margin / 2}, False)


def marked(snippets: str) -> set[str]:
    return {part.partition(">>")[0] for part in snippets.split("<<")[1:]}


def knows_colours(snippets: str) -> float:
    return 3.0 if marked(snippets) & {colour.strip() for colour in COLOURS} else -3.0


def knows_days(snippets: str) -> float:
    return -3.0 if marked(snippets) & set(DAYS) else 3.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The planted world, its decoder the coordinates: each latent is one direction, and there is no error."""
    context = planted_context(tmp_path_factory.mktemp("shift"))
    context.subject.dictionary.decoder = torch.eye(N_LATENTS)  # type: ignore[misc]
    return context


def text(rng: np.random.Generator, colour: bool, bank: bool) -> str:
    words = [str(word) for word in rng.choice(FILLERS, 12)]
    if bank:
        words[2:4] = [" river", " bank"]
    if colour:
        words[7] = str(rng.choice(COLOURS))
    return "".join(words).strip()


@pytest.fixture(scope="module")
def problem() -> dict[str, Any]:
    """In training a colour is named where "river bank" is; in the test all four kinds of text stand."""
    rng = np.random.default_rng(0)
    names = {True: "colour", False: "none"}
    train = [{"text": text(rng, a, a), "label": names[a]} for a in (True, False) for _ in range(40)]
    test = [
        {"text": text(rng, a, b), "label": names[a], "attribute": "bank" if b else "other"}
        for a in (True, False)
        for b in (True, False)
        for _ in range(20)
    ]
    return {"task": TASK, "train": train, "test": test}


def by_group(accuracy: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(group["label"], group["attribute"]): group["accuracy"] for group in accuracy["groups"]}


def test_the_planted_confound_is_forgotten(world: Context, problem: dict[str, Any]) -> None:
    found = call("shift", world, **problem, irrelevant=[BANK])
    assert by_group(found["before"])["none", "bank"] < 0.5  # it goes by the bank
    assert found["before"]["accuracy"] < 0.8
    assert found["after"]["accuracy"] >= 0.95
    assert found["after"]["worst"] >= 0.9
    assert found["after"]["follows"] < 0.05 < 0.3 < found["before"]["follows"]
    assert found["controls"]["balanced"]["accuracy"] >= 0.95
    assert max(found["controls"]["random"]) < found["after"]["accuracy"]
    assert abs(call("shift", world, **problem, irrelevant=[EVEN])["change"]) <= 0.05  # a latent that has no part in it
    assert found["low"] > 0.1
    assert found["recovered"] == pytest.approx(1, abs=0.2)


def test_effects_add_up_to_what_the_classifier_says(world: Context, problem: dict[str, Any]) -> None:
    """Against the log-odds themselves, with and without each latent."""
    subject = world.subject
    positive = np.array([each["label"] == "none" for each in problem["train"]])
    texts = read_texts(subject, [each["text"] for each in problem["train"]], "mean")
    classifier = trained(texts.x, positive)
    decoder = np.eye(N_LATENTS)
    found, error = effects(classifier, texts, positive, decoder)

    def gap(x: np.ndarray) -> float:
        odds = x @ classifier.weight + classifier.bias
        return float(odds[positive].mean() - odds[~positive].mean())

    for latent in (COLOUR, BANK):
        x = texts.x.copy()
        x[:, latent] = 0  # the planted residual stream is the latents
        assert gap(texts.x) - gap(x) == pytest.approx(found[latent], abs=1e-4)
    assert found.sum() + error == pytest.approx(gap(texts.x), abs=1e-4)
    assert error == pytest.approx(0, abs=1e-3)


KITCHEN = ("soup", "bread", "sauce", "salad", "curry", "stew", "cake", "pasta", "dough", "omelette")
PITCH = ("goal", "team", "coach", "match", "league", "striker", "referee", "stadium", "cup", "defender")
DAYS = ("Monday", "Tuesday", "Friday", "Sunday")
PLACES = ("at home", "over there", "in town", "up north")


def sentences(kitchen: bool, day: bool, second: bool) -> list[str]:
    """Ten sentences about food or football, with a day or a place; another frame for the texts that are tested on."""
    frames = ("The {} was much better {} than we had hoped.", "Everybody talked about the {} {} and nothing else.")
    return [
        frames[second].format(
            noun, f"on {DAYS[i % 4]}" if day else ("at home", "over there", "in town", "up north")[i % 4]
        )
        for i, noun in enumerate(KITCHEN if kitchen else PITCH)
    ]


def test_the_embedded_model(default_subject: Subject, tmp_path: Any) -> None:
    """Food always comes with a day of the week in training. The latents of days are found by their own snippets."""
    context = Context(default_subject, Ledger(tmp_path / "store.duckdb"), llm=Judge(knows_days))  # type: ignore[arg-type]
    names = {True: "food", False: "football"}
    train = [{"text": t, "label": names[a]} for a in (True, False) for t in sentences(a, a, second=False)]
    test = [
        {"text": t, "label": names[a], "attribute": "day" if b else "place"}
        for a in (True, False)
        for b in (True, False)
        for t in sentences(a, b, second=True)
    ]
    found = call(
        "shift", context, task="whether a text is about food or about football", train=train, test=test, judged=30
    )
    assert found["before"]["follows"] > 0.2
    assert found["ablated"]
    assert found["after"]["follows"] < found["before"]["follows"]
    assert found["change"] > 0
    assert found["controls"]["balanced"]["accuracy"] > 0.8
    whole = sum(each["effect"] for each in found["latents"]) + found["effect_of_error"]
    assert abs(whole) > 0.3 * abs(found["difference"])
    assert len(found["pictures"]) == 2


def test_a_judge_names_the_latents(world: Context, problem: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(knows_colours)
    monkeypatch.setattr(world, "llm", judge)
    found = call("shift", world, **problem)
    assert BANK in found["ablated"]
    assert COLOUR not in found["ablated"]
    assert found["after"]["accuracy"] > found["before"]["accuracy"] + 0.1
    assert {template for template, _ in judge.asked} == {"judge_relevance"}
    shown = next(each for each in found["latents"] if each["latent"] == BANK)
    assert all("<<bank>>" in snippet for snippet in shown["snippets"])
    assert shown["call"] == "call"


def test_nothing_irrelevant_is_an_answer(
    world: Context, problem: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "llm", Judge(lambda snippets: 3.0))
    found = call("shift", world, **problem)
    assert found["verdict"].startswith("nothing was called irrelevant by fake")
    assert found["after"] == found["before"]
    assert (found["ablated"], found["change"], found["clear"]) == ([], 0, False)


def test_what_the_judge_did_not_say_is_kept(
    world: Context, problem: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "llm", Judge(lambda snippets: None if marked(snippets) == {"bank"} else 1.0))
    found = call("shift", world, **problem)
    assert found["unparsed"] == 1
    assert found["ablated"] == []
    assert "could not be read" in found["verdict"]
    monkeypatch.setattr(world, "llm", Judge(lambda snippets: None))
    assert "gave no readable verdict" in str(asyncio.run(run("shift", problem, world)).error)


def test_an_llm_is_needed_only_where_nobody_else_judges(world: Context, problem: dict[str, Any]) -> None:
    tool = get_tool("shift")
    assert tool.asked(validate(tool, {**problem, "irrelevant": [BANK]})) == ()
    assert tool.asked(validate(tool, problem)) == (Role.JUDGE,)
    assert "asks an LLM" in str(asyncio.run(run("shift", problem, world)).error)


def fewer(texts: Texts, wanted: Callable[[dict[str, str]], bool], n: int) -> Texts:
    return [each for each in texts if not wanted(each)] + [each for each in texts if wanted(each)][:n]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: {"train": [t for t in p["train"] if t["label"] == "none"]}, "have 1 labels ('none'): give texts of"),
        (lambda p: {"test": [t for t in p["test"] if t["attribute"] == "bank"]}, "have 1 attributes ('bank')"),
        (lambda p: {"test": fewer(p["test"], lambda t: (t["label"], t["attribute"]) == ("colour", "other"), 0)},
         "There are 0 test texts of 'colour' with 'other': give 8 or more"),
        (lambda p: {"train": fewer(p["train"], lambda t: t["label"] == "colour", 5)},
         "There are 5 training texts labelled 'colour': give 10 or more"),
        (lambda p: {"test": [{**p["test"][0], "label": "sound"}, *p["test"]]}, "The label 'sound' of a test text"),
        (lambda p: {"test": [{**p["test"][0], "text": p["train"][0]["text"]}, *p["test"]]}, "both trained and tested"),
    ],
)  # fmt: skip
def test_bad_texts_are_one_sentence(
    world: Context, problem: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    experiment = asyncio.run(run("shift", {**problem, **change(problem), "irrelevant": [BANK]}, world))
    assert said in str(experiment.error)


def test_unknown_and_no_latents_are_refused(world: Context, problem: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"name one from 0 to {N_LATENTS - 1}"):
        asyncio.run(run("shift", {**problem, "irrelevant": [99]}, world))
    with pytest.raises(UserError, match="irrelevant is empty"):
        validate(get_tool("shift"), {**problem, "irrelevant": []})


def test_groups_weigh_alike() -> None:
    truth = np.array([True] * 10 + [False] * 2)
    groups = {(True, True): np.arange(5), (True, False): np.arange(5, 10),
              (False, True): np.array([10]), (False, False): np.array([11])}  # fmt: skip
    grade = graded(np.ones(12, bool), truth, groups)
    assert grade.mean.value == 0.5
    assert grade.worst.value == 0
    assert grade.follows == 0
