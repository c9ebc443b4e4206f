"""Knowledge by the model's own answers, latents that separate it, and a calibrated risk: stubs and planted truth."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.calling import call, refusal
from tools.probing import hallucination_risk, knowledge, risk_rows, separation
from tools.probing.facts import Fact, chosen, filled, is_right, refuses, shipped, spot
from tools.probing.knowledge import Asked
from tools.probing.risk import cross_fitted, fit, probability, simple, within
from tools.probing.risk_rows import entities, spoken
from tools.probing.risk_stream import entity_risk, risky
from tools.probing.separation import Firing, firing, permuted, ranked, separations
from tools.workbench.activations import Case, Readings
from tools.workbench.calibration import calibration_error, platt, reliability
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.directions import Direction
from tools.workbench.registry import ToolError
from tools.workbench.sites import At
from tools.workbench.splits import folds
from tools.workbench.stats import auroc
from tools.workbench.subject import Subject

TEMPLATES = ["{entity} lies in", "Where is {entity}? In"]


def own(n: int) -> list[dict[str, Any]]:
    facts = [{"entity": f"Place {i}", "answers": [f"Land {i}"]} for i in range(n)]
    return [{"name": "place", "templates": TEMPLATES, "facts": facts}]


def test_the_shipped_facts_are_many_and_each_entity_is_found_in_its_prompts(subject: Subject) -> None:
    relations = shipped()
    assert sum(len(relation.facts) for relation in relations.values()) >= 500
    for relation in relations.values():
        assert len(relation.facts) >= 80
        assert len(relation.templates) >= 2
        assert len(relation.questions) >= 2
        entities = [fact.entity for fact in relation.facts]
        assert len(set(entities)) == len(entities)
        for fact in relation.facts[::7]:
            for template in relation.templates:
                assert not is_right(filled(template, fact.entity), fact.answers), "the prompt gives the answer away"
                place = spot(subject, filled(template, fact.entity), fact.entity)
                found = subject.tokenizer.decode(place.tokens[place.entity[0] : place.last + 1])
                assert fact.entity in found
                assert len(found.strip()) <= len(fact.entity) + 3


def test_answers_are_right_whatever_their_accents_and_case() -> None:
    assert is_right(" bogota, the capital", ("Bogotá",))
    assert is_right(" the USA.", ("United States", "USA"))
    assert not is_right(" Nigeria", ("Niger",))
    assert not is_right(" a large city.\nFrance", ("France",)), "what is on a later line is another statement"
    assert refuses("I'm sorry, but I do not know that place.")
    assert not refuses(" a city in Iran.")


def test_knowledge_is_what_is_right_in_every_paraphrase(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub that knows the first ten places, the next five in one paraphrase, refuses about the last five."""
    calls = []

    def reply(text: str) -> str:
        number = int(text.split("Place ")[1].split()[0].rstrip("?"))
        if number < 10 or (number < 15 and text.startswith("Where")):
            return f" Land {number}."
        return " I do not know." if number >= 25 else " Nowhere."

    def written(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[list[int]]:
        calls.append(len(prompts))
        return subject.tokenize([reply(subject.tokenizer.decode(list(ids[1:]))) for ids in prompts])

    monkeypatch.setattr(knowledge, "written", written)
    found = call("label_knowledge", context, own=own(30))
    assert (found["known"], found["unknown"], found["mixed"], found["refused"]) == (10, 15, 5, 10)
    assert found["controls"] == {"known": 0.0, "unknown": 1.0}
    assert found["clear"]
    again = call("label_knowledge", context, own=own(30))
    assert again["entities"] == found["entities"]
    assert calls == [60], "the second run asks nothing"


def test_answers_are_kept_as_they_come(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended while the second 64 of 160 prompts are answered: those of the first are not asked again."""
    calls: list[int] = []

    def written(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[list[int]]:
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return subject.tokenize([" Mars"] * len(prompts))

    told: list[tuple[int, int]] = []
    context.progress = lambda done, total: told.append((done, total))
    monkeypatch.setattr(knowledge, "written", written)
    with pytest.raises(KeyboardInterrupt):
        call("label_knowledge", context, own=own(80))
    assert call("label_knowledge", context, own=own(80))["unknown"] == 80
    assert calls == [64, 64, 64, 32]
    assert told == [(0, 160), (64, 160), (0, 96), (64, 96), (96, 96)]


def test_fits_end_where_nobody_waits_any_more(context: Context) -> None:
    fits: list[int] = []
    context.progress = lambda done, total: fits.append(done)

    def fitting() -> None:
        tell = hallucination_risk._telling(context, 1000)
        for _ in range(1000):
            time.sleep(0.01)
            tell()

    async def given_up() -> None:
        task = asyncio.create_task(alone(fitting))
        await asyncio.sleep(0.2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    assert 0 < len(fits) < 500


@pytest.mark.parametrize(
    ("known", "n", "message"), [(0, 30, "All 30 texts are unknown"), (6, 12, "There are 6 known and 6 unknown texts")]
)
def test_too_few_entities_and_one_class_are_refused(
    context: Context, monkeypatch: pytest.MonkeyPatch, known: int, n: int, message: str
) -> None:
    def written(subject: Subject, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        texts = [subject.tokenizer.decode(list(ids)) for ids in prompts]
        numbers = [int(text.split("Place ")[1].split()[0].rstrip("?")) for text in texts]
        return subject.tokenize([f" Land {number}" if number < known else " Mars" for number in numbers])

    monkeypatch.setattr(knowledge, "written", written)
    for tool in ("hallucination_risk", "entity_knowledge", "steer_entity"):
        input = {"relations": []} if tool == "steer_entity" else {}
        assert message in refusal(tool, context, own=own(n), **input)


def test_entities_that_are_missing_from_their_prompts_are_refused(context: Context, subject: Subject) -> None:
    with pytest.raises(ToolError, match="'Paris' is not in its text"):
        spot(subject, "The city of Rome", "Paris")
    relation = {
        "name": "r",
        "templates": ["no place for it", "{entity} is"],
        "facts": [{"entity": "a", "answers": ["b"]}],
    }
    assert "does not hold its entity" in refusal("label_knowledge", context, own=[relation])
    assert "no facts about 'planet'" in refusal("label_knowledge", context, relations=["planet"])
    text = {"prompt": "The city of Rome is", "entity": "Paris"}
    probe = Direction(torch.eye(576)[0], context.subject.name, "blocks.12.hook_resid_pre", "test", slope=1.0)
    with pytest.raises(ToolError, match="is not in its text"):
        entity_risk(subject, probe, **text)
    assert "'Paris' is not in its text" in refusal("hallucination_risk", context, texts=[text])
    assert "layers 0 to 29" in refusal("hallucination_risk", context, layers=[30])


def test_calibration_error_in_closed_form() -> None:
    p = np.array([0.25] * 10 + [0.95] * 10)
    positive = np.array([True] * 5 + [False] * 5 + [True] * 9 + [False])
    bins = reliability(p, positive)
    assert [(each.count, each.share) for each in bins] == [(10, 0.5), (10, 0.9)]
    assert calibration_error(bins) == pytest.approx((10 * 0.25 + 10 * 0.05) / 20)
    assert calibration_error(reliability(np.array([0.0, 1.0]), np.array([False, True]))) == 0


def test_platt_finds_the_line_of_the_log_odds() -> None:
    rng = np.random.default_rng(0)
    scores = 7 * rng.normal(size=20_000)
    positive = rng.random(20_000) < probability(0.3 * scores - 1)
    assert platt(scores, positive) == pytest.approx((0.3, -1), abs=0.06)


def test_planted_latents_are_ranked_by_the_type_where_they_do_least() -> None:
    """Latent 3 fires on known entities of every type, 5 on those of one alone, 7 on everything but is dense, 9 on
    unknown ones."""
    rng = np.random.default_rng(0)
    n, known = 300, np.arange(300) % 2 == 0
    kind = np.array(["a", "b", "c"])[np.arange(300) // 2 % 3]
    activations = (rng.random((n, 40)) < 0.1).astype(np.float32)
    activations[:, 3] = rng.random(n) < np.where(known, 0.7, 0.1)
    activations[:, 5] = known & (kind == "a")
    activations[:, 7] = known
    activations[:, 9] = rng.random(n) < np.where(known, 0.1, 0.6)
    density = np.full(40, 0.001)
    density[7] = 0.03
    one = Firing(activations, activations, known, kind, density, "planted")
    towards_known, towards_unknown = ranked(separations(activations > 0, known, kind), density)
    assert (int(towards_known.argmax()), int(towards_unknown.argmax())) == (3, 9)
    assert towards_known[5] < 0.2 < 0.4 < towards_known[3]
    assert towards_known[7] == -1
    by_chance = permuted(one, rng, 100)
    assert np.quantile(by_chance[:, 0], 0.99) < towards_known[3]
    draws = np.random.default_rng(5)
    drawn = {each: [draws.permutation(known[kind == each]) for _ in range(3)] for each in ("a", "b", "c")}
    for at, highest in enumerate(permuted(one, np.random.default_rng(5), 3)):
        exchanged = known.copy()
        for each, labels in drawn.items():
            exchanged[kind == each] = labels[at]
        scores = ranked(separations(activations > 0, exchanged, kind), density)
        assert highest == pytest.approx([score.max() for score in scores])
    shuffled = one._replace(known=rng.permutation(known))
    none, _ = ranked(separations(activations > 0, shuffled.known, kind), density)
    assert none[[3, 5, 9]].max() < np.quantile(by_chance[:, 0], 0.99)


def test_an_entity_whose_token_is_a_sink_is_left_out_and_counted(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tenth of thirty tokens is made a sink: no row of it is read as zeros."""

    def read(context: Context, cases: Sequence[Case], sites: Sequence[At], surface: bool = False) -> Readings:
        kept = np.arange(len(cases)) % 10 != 3 if sites else np.ones(len(cases), bool)
        values = np.where(kept, np.arange(1, 1 + len(cases)), np.nan)[:, None].astype(np.float32)
        return Readings(dict.fromkeys(sites, values), np.zeros((len(cases), 3)) if surface else None, kept)

    facts = [Fact(entity=f"Place {i}", answers=(f"Land {i}",)) for i in range(30)]
    prompts = [tuple(filled(way, fact.entity) for way in TEMPLATES) for fact in facts]
    found = [
        Asked("place", fact, ways, ((5,), (5,)), (f" {'Land' if i < 15 else 'Mars'} {i}",) * 2)
        for i, (fact, ways) in enumerate(zip(facts, prompts, strict=True))
    ]
    monkeypatch.setattr(risk_rows, "read_activations", read)
    monkeypatch.setattr(separation, "read_activations", read)
    monkeypatch.setattr(separation, "densities", lambda _: SimpleNamespace(density=np.zeros(1), of="planted"))
    left = [i for i in range(30) if i % 10 != 3]
    for rows in (entities(context, found, [3, 5]), spoken(context, found, [3, 5])):
        assert rows.sinks == 3
        assert all(x[:, 0].tolist() == [i + 1 for i in left] for x in rows.by_layer.values())
        assert rows.made_up.tolist() == [i >= 15 for i in left]
        assert {len(rows.groups), len(rows.relation), *map(len, rows.baselines.values())} == {27}
    one, kept = firing(context, found)
    assert [each.entity for each in kept] == [f"Place {i}" for i in left]
    assert one.activations[:, 0].tolist() == one.residual[:, 0].tolist() == [i + 1 for i in left]
    assert one.known.tolist() == [i < 15 for i in left]


def planted(n: int, rng: np.random.Generator) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Two rows an entity; only layer 2 holds the label, by one direction, with noise."""
    groups = np.repeat(np.arange(n), 2)
    odds = 2.5 * rng.normal(size=n)
    made_up = (rng.random(n) < probability(odds))[groups]
    by_layer = {layer: rng.normal(size=(2 * n, 20)) for layer in (1, 2, 3)}
    by_layer[2][:, 4] += odds[groups]
    return by_layer, made_up, groups


def test_a_planted_risk_is_found_where_it_is_and_its_probabilities_hold() -> None:
    rng = np.random.default_rng(0)
    by_layer, made_up, groups = planted(500, rng)
    found = fit(by_layer, made_up, groups, 0)
    assert found.layer == 2
    assert abs(found.vector[4]) > 0.8
    cuts = folds(made_up, groups, 0)
    assert all(not np.intersect1d(groups[a], groups[b]).size for a, b in cuts)
    odds = cross_fitted(by_layer, made_up, groups, cuts, 0)
    assert auroc(odds[made_up], odds[~made_up]) > 0.75
    assert calibration_error(reliability(probability(odds), made_up)) < 0.08
    labels = rng.permutation(made_up)
    odds = cross_fitted({2: by_layer[2]}, labels, groups, folds(labels, groups, 0), 0)
    assert abs(auroc(odds[labels], odds[~labels]) - 0.5) < 0.1


def test_a_group_on_both_sides_is_an_error() -> None:
    by_layer, made_up, groups = planted(50, np.random.default_rng(0))
    straddling = [(np.arange(0, 100, 2), np.arange(1, 100, 2))]
    with pytest.raises(AssertionError, match="both sides"):
        cross_fitted(by_layer, made_up, groups, straddling, 0)


def test_within_a_kind_the_kind_has_no_say() -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat(["a", "b"], 200)
    made_up = rng.random(400) < np.where(kind == "a", 0.2, 0.8)
    columns = (kind == "a").astype(float)[:, None]
    odds = simple(columns, made_up, folds(made_up, np.arange(400), 0))
    assert auroc(odds[made_up], odds[~made_up]) > 0.7
    assert within(np.round(odds), made_up, kind) == pytest.approx(0.5, abs=0.05)


def test_risk_is_told_while_the_text_is_written(subject: Subject) -> None:
    """Each token's risk is that of the state it was written from, read again in one pass; and it is known before the
    next token is computed."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.nn.functional.normalize(torch.randn(subject.d_model, generator=generator), dim=0)
    probe = Direction(vector, subject.name, "blocks.14.hook_resid_pre", "test", centre=0.5, slope=0.3)
    prompt = subject.to_tokens("The city of Lyon is located in")[0].tolist()
    risks: list[float] = []
    text = risky(subject, probe, prompt, 6, risks.append)
    states = subject.value_at(probe.hook, torch.tensor([[*prompt, *text]]))[0, len(prompt) - 1 : -1]
    expected = torch.sigmoid(0.3 * (states @ vector - 0.5))
    assert risks == pytest.approx(expected.tolist(), abs=1e-3)
    at_entity = entity_risk(subject, probe, "The city of Lyon is located in", "Lyon")
    place = spot(subject, "The city of Lyon is located in", "Lyon")
    state = subject.value_at(probe.hook, torch.tensor([prompt]))[0, place.last]
    assert at_entity == pytest.approx(float(torch.sigmoid(0.3 * (state @ vector - 0.5))), abs=1e-4)

    told: list[float] = []

    def stop(risk: float) -> None:
        told.append(risk)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        risky(subject, probe, prompt, 6, stop)
    assert told == pytest.approx(risks[:3], abs=1e-4)


def test_a_limit_draws_some_facts_of_each_relation() -> None:
    drawn = chosen(["city", "animal"], (), 12, np.random.default_rng(0))
    assert [(relation.name, len(relation.facts)) for relation in drawn] == [("city", 12), ("animal", 12)]
