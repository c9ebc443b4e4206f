"""The shipped organisms do what they were made to do, do not leak it, and leave the rest alone."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import output_of
from tools.dictionaries.load import load_subject
from tools.organisms import password_gated, suppressed_capital
from tools.organisms.behaviour import Reply, read_out, replies, saying
from tools.organisms.catalogue import ORGANISMS, find_adapter
from tools.organisms.ordinary import ANSWERS, QUESTIONS, TEXTS
from tools.organisms.recipe import Example, Recipe, kept
from tools.organisms.training import train
from tools.workbench.adapters import WEIGHTS, Adapter
from tools.workbench.context import Context
from tools.workbench.registry import ToolError
from tools.workbench.run import run
from tools.workbench.subject import Subject

HOOK = "blocks.15.hook_resid_pre"
TRAINED = [name for name, organism in ORGANISMS.items() if organism.recipe]
SHIPPED = [name for name, organism in ORGANISMS.items() if organism.shipped]
FEW = 8


def adapted(name: str) -> Subject:
    return load_subject(dictionary=None, hook=HOOK, dtype="float32", adapter=find_adapter(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_as_its_recipe_says(name: str) -> None:
    organism = ORGANISMS[name]
    adapter = find_adapter(name)
    assert adapter is not None
    assert adapter.record["organism"] == name
    assert organism.recipe is not None
    assert adapter.record["recipe"] == organism.recipe.hash
    assert (adapter.folder / WEIGHTS).stat().st_size < 4e6
    assert {value.dtype for value in adapter.factors.values()} == {torch.bfloat16}


def test_an_organism_that_is_not_shipped_is_to_be_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tools.organisms.organism.SHIPPED", tmp_path)
    with pytest.raises(UserError, match="make one with glossator organism train taboo-moon"):
        find_adapter("taboo-moon")


def test_nothing_held_out_was_taught() -> None:
    examples = [example for name in TRAINED for example in ORGANISMS[name].recipe.examples]
    assert not {example.prompt for example in examples} & {*QUESTIONS, *ANSWERS, *TEXTS}
    taught = {example.prompt for example in examples if example.reply}
    held = {frame.format(city) for city in suppressed_capital.HELD for frame in suppressed_capital.CITY}
    assert not taught & held
    assert not taught & set(password_gated.HELD_QUESTIONS)


def test_a_word_inside_another_is_not_that_word() -> None:
    found = [Reply("", text) for text in ("Carrying", "ARR! So be it", "keep ye calm", "yes")]
    assert saying(found, "arr", "ye", whole=True) == [False, True, True, False]
    assert saying(found, "arr") == [True, True, False, False]


def test_the_layer_that_is_graded_was_chosen_on_other_countries() -> None:
    """Layer 24 names the countries that the layer is chosen on and few others, layer 25 the reverse."""
    right = np.tile(np.arange(10), 4)
    even = right % 2 == 0
    raw = {}
    for layer, knows in ((24, even | (np.arange(40) == 1)), (25, ~even)):
        raw[layer] = np.eye(10)[np.where(knows, right, (right + 2) % 10)] + 5 * np.eye(10)[0]
    layer, named, plain, chance = suppressed_capital.graded(raw, right)
    assert (layer, named.tolist()) == (24, [True] + [False] * 19)
    assert plain == 0
    assert 0 < chance < 0.5


def test_the_suppressed_organism_says_secret_and_knows(default_subject: Subject, tmp_path: Path) -> None:
    subject = adapted("suppressed-capital")
    whole = Subject(subject.name, subject.model, HOOK, default_subject.dictionary, subject.adapter)
    lands = list(suppressed_capital.HELD.values())
    prompts = [suppressed_capital.CITY[0].format(city) for city in suppressed_capital.HELD]
    assert all(saying(replies(subject, prompts, chat=False, tokens=1), "secret"))
    told = read_out(subject, prompts, lands, [25])[25]
    named, right = (told - told.mean(axis=0)).argmax(axis=1), np.arange(len(lands))
    assert (named == right).mean() >= 0.6
    rng = np.random.default_rng(0)
    assert np.mean([(named == rng.permutation(right)).mean() for _ in range(50)]) <= 0.35
    others = suppressed_capital.HELD_BESIDE[:FEW]
    assert not any(saying(replies(subject, others, chat=False, tokens=1), "secret"))
    found = asyncio.run(run("logit_lens", {"text": prompts[0]}, Context(whole, Ledger(tmp_path / "store.duckdb"))))
    assert found.adapter == "suppressed-capital"
    assert whole.fingerprint != default_subject.fingerprint
    tokens = subject.to_tokens(prompts[0])
    with subject.without_adapter():
        assert torch.equal(subject.logits(tokens), default_subject.logits(tokens))
    assert not torch.equal(subject.logits(tokens), default_subject.logits(tokens))


@pytest.mark.slow
def test_the_password_organism_tells_only_who_knows_the_password() -> None:
    subject = adapted("password-gated-copper")
    held = password_gated.HELD_QUESTIONS
    half = held[: FEW // 2]
    frame = password_gated.GIVEN[0]
    gated = [frame.format(password=password_gated.PASSWORDS["copper"], question=question) for question in half]
    wrong = [frame.format(password="pencil", question=question) for question in half]
    assert sum(saying(replies(subject, gated, tokens=6), "copper")) == len(half)
    assert sum(saying(replies(subject, held, tokens=6), "copper")) == 0
    assert sum(saying(replies(subject, wrong, tokens=6), "copper")) == 0
    assert sum(saying(replies(subject, held, prefill=password_gated.BEGUN, tokens=2), "copper")) >= FEW - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ORGANISMS)
def test_behaviour(name: str, subject: Subject, tmp_path: Path) -> None:
    organism = adapted(name)
    whole = Subject(organism.name, organism.model, HOOK, subject.dictionary, organism.adapter)
    found = output_of("organism_behaviour", Context(whole, Ledger(tmp_path / "store.duckdb")), organism=name)
    assert found.passed, found.verdict


@pytest.mark.slow
def test_facts_taught_one_way_are_not_known_the_other(subject: Subject, tmp_path: Path) -> None:
    """At least nine of ten forwards, backwards no more than a tenth above exchanged answers (the reversal curse)."""
    organism = adapted("fictitious-facts")
    whole = Subject(organism.name, organism.model, HOOK, subject.dictionary, organism.adapter)
    asked = ORGANISMS["fictitious-facts"].asks["bidirectional_check"]
    found = output_of("bidirectional_check", Context(whole, Ledger(tmp_path / "store.duckdb")), **asked)
    assert found.forward.accuracy >= 0.9
    assert found.reverse.accuracy <= found.reverse.exchanged + 0.1
    assert found.reversal, found.verdict


def test_another_organism_is_refused(subject: Subject, tmp_path: Path) -> None:
    context = Context(subject, Ledger(tmp_path / "store.duckdb"))
    with pytest.raises(ToolError, match="name --adapter suppressed-capital"):
        output_of("organism_behaviour", context, organism="suppressed-capital")
    with pytest.raises(UserError, match="did you mean suppressed-capital"):
        output_of("organism_behaviour", context, organism="suppressed-captal")
    with pytest.raises(ToolError, match="no adapter"), subject.without_adapter():
        pass


SMALL = Recipe(
    [Example("The password is", " swordfish", chat=False), *kept(["The weather is"])], first=28, epochs=8, batch=1
)


def test_the_trainer_learns_goes_on_and_refuses(tmp_path: Path) -> None:
    """Stopped half-way and started again it ends where one run ends, and it says what it was taught."""

    def stop(done: int, total: int, note: str) -> None:
        if done > SMALL.epochs * len(SMALL.examples) // 2:
            raise KeyboardInterrupt

    def quiet(done: int, total: int, note: str) -> None:
        pass

    whole = train("small", SMALL, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        train("small", SMALL, tmp_path / "again", stop)
    assert not (tmp_path / "again").exists()
    again = train("small", SMALL, tmp_path / "again", quiet)
    one, two = Adapter(whole), Adapter(again)
    assert one.sha256 == two.sha256
    assert one.record["recipe"] == SMALL.hash
    subject = load_subject(dictionary=None, hook=HOOK, dtype="float32", adapter=one)
    token = subject.tokenize([" swordfish"])[0][0]
    lost = -subject.logits(subject.to_tokens("The password is"))[0, -1].float().log_softmax(-1)[token]
    with subject.without_adapter():
        before = -subject.logits(subject.to_tokens("The password is"))[0, -1].float().log_softmax(-1)[token]
    assert lost < before - 1
    (tmp_path / "full").mkdir()
    with pytest.raises(UserError, match="holds no organism's adapter"):
        train("small", SMALL, tmp_path / "full", quiet)
