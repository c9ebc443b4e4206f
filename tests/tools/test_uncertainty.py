"""Latents that are higher before wrong replies: planted ones are found, and none where labels are exchanged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from tests.tools.calling import call, refusal
from tools.probing import knowledge, reply_rows
from tools.probing.welch import centred, exchanged, welch
from tools.workbench.activations import Case, Readings
from tools.workbench.context import Context
from tools.workbench.sites import At
from tools.workbench.subject import Subject

WRONG, RIGHT, KIND, LATENTS = 3, 9, 5, 60


def test_t_is_scipy_s_of_each_latent() -> None:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(80, 12)), 0) * rng.exponential(3, 12)
    x[:, 4] = 2.0
    labels = rng.random((3, 80)) < 0.3
    for own, found in zip(labels, welch(x, labels), strict=True):
        with np.errstate(invalid="ignore"):
            expected = ttest_ind(x[own], x[~own], equal_var=False).statistic
        assert found[4] == 0
        np.testing.assert_allclose(np.delete(found, 4), np.delete(expected, 4), rtol=1e-9)


def test_labels_are_exchanged_within_a_kind_and_kinds_have_no_say() -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat(["a", "b"], 100)
    labels = rng.random(200) < np.where(kind == "a", 0.1, 0.9)
    for own in exchanged(labels, kind, rng, 5):
        assert [own[kind == each].sum() for each in "ab"] == [labels[kind == each].sum() for each in "ab"]
        assert (own != labels).any()
    x = np.column_stack([kind == "b", labels]) + 0.3 * rng.normal(size=(200, 2))
    (of_kind, of_label), (raw, _) = welch(centred(x, kind), labels[None])[0], welch(x, labels[None])[0]
    assert abs(of_kind) < 3 < 10 < raw
    assert of_label > 5


def facts(n: int) -> list[dict[str, Any]]:
    """Two relations, of which the model is wrong about most of one and about few of the other."""
    return [
        {
            "name": name,
            "templates": ["{entity} lies in", "{entity} is in"],
            "questions": ["Where is {entity}?", "What holds {entity}?"],
            "facts": [{"entity": f"{name} {i}", "answers": [f"Land {i}"]} for i in range(n)],
        }
        for name in ("Town", "Lake")
    ]


def is_wrong(entity: str) -> bool:
    name, number = entity.split()
    return hash_of(number) < (0.7 if name == "Lake" else 0.3)


def hash_of(number: str) -> float:
    return int(number) * 0.618 % 1


def entity_of(text: str) -> str:
    name = "Town" if "Town" in text else "Lake"
    return f"{name} {''.join(c for c in text.split(f'{name} ')[1].split('?')[0] if c.isdigit())}"


@pytest.fixture
def planted(context: Context, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A model whose replies are wrong as `is_wrong` says, latent 3 fires before wrong ones, 9 before right ones and 5
    before whatever is asked of lakes. `labels`: "exchanged" makes it wrong about as many others instead."""
    state: dict[str, Any] = {"exchanged": None}

    def said(entity: str) -> bool:
        rng = state["exchanged"]
        return is_wrong(entity) if rng is None else bool(rng[entity])

    def written(subject: Subject, prompts: Sequence[Sequence[int]], n: int) -> list[list[int]]:
        entities = [entity_of(subject.tokenizer.decode(list(ids))) for ids in prompts]
        return subject.tokenize([" Mars" if said(each) else f" Land {each.split()[1]}" for each in entities])

    def read(context: Context, cases: Sequence[Case], sites: Sequence[At], surface: bool = False) -> Readings:
        rng = np.random.default_rng(1)
        entities = [entity_of(context.subject.tokenizer.decode(list(case.tokens))) for case in cases]
        assert all(case.places[0] == case.span[0] - 1 for case in cases), "the last token before the reply"
        values = np.maximum(rng.normal(size=(len(cases), LATENTS)) - 0.5, 0).astype(np.float32)
        wrong = np.array([is_wrong(each) for each in entities])
        values[:, WRONG] += 1.2 * wrong * (rng.random(len(cases)) < 0.8)
        values[:, RIGHT] += 1.2 * ~wrong * (rng.random(len(cases)) < 0.8)
        values[:, KIND] += np.array(["Lake" in each for each in entities])
        told = np.column_stack([np.ones((len(cases), 2)), rng.normal(size=len(cases))])
        return Readings(dict.fromkeys(sites, values), told if surface else None, np.ones(len(cases), bool))

    monkeypatch.setattr(knowledge, "written", written)
    monkeypatch.setattr(reply_rows, "read_activations", read)
    return state


def test_planted_latents_are_found_and_kinds_of_question_are_not(context: Context, planted: dict[str, Any]) -> None:
    found = call("uncertainty_latents", context, own=facts(100), n=3)
    (wrong, *_), (right, *_) = found["wrong"], found["right"]
    assert (wrong["latent"], right["latent"]) == (WRONG, RIGHT)
    for best, bar in ((wrong, "permuted_wrong"), (right, "permuted_right")):
        assert best["p"] == pytest.approx(1 / 201)
        assert best["t"] > found["controls"][bar]
        assert best["low"] > 0.6
        assert best["within"] > 0.6
    assert wrong["fires_wrong"] > wrong["fires_right"]
    assert KIND not in [latent["latent"] for latent in (*found["wrong"], *found["right"])][:2]
    by_label = {each["label"]: each for each in found["baselines"]}
    assert by_label["a probe of the residual stream"]["auroc"] > wrong["auroc"] - 0.1
    assert by_label["the relation"]["within"] == 0.5
    assert by_label["the relation"]["auroc"] > 0.6
    assert abs(found["controls"]["shuffled_probe"] - 0.5) < 0.2
    assert found["clear"]
    assert (found["replies"], found["refused"], found["sinks"]) == (200, 0, 0)


def test_none_is_found_where_labels_are_exchanged(context: Context, planted: dict[str, Any]) -> None:
    """Eight draws; at 1 % each way at most one stands by chance."""
    entities = [fact["entity"] for relation in facts(100) for fact in relation["facts"]]
    clear = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = np.array([is_wrong(each) for each in entities])
        for half in (slice(0, 100), slice(100, 200)):
            truth[half] = rng.permutation(truth[half])
        planted["exchanged"] = dict(zip(entities, truth, strict=True))
        fresh = facts(100)
        for relation in fresh:
            relation["questions"] = [f"{way}{' ' * seed}" for way in relation["questions"]]
        found = call("uncertainty_latents", context, own=fresh)
        clear.append(found["clear"])
        assert abs(found["wrong"][0]["within"] - 0.5) < 0.2
    assert sum(clear) <= 1


def test_too_few_and_one_kind_of_reply_are_refused(context: Context, planted: dict[str, Any]) -> None:
    planted["exchanged"] = {f"{name} {i}": i < 4 for name in ("Town", "Lake") for i in range(40)}
    assert "give at least 20" in refusal("uncertainty_latents", context, own=facts(6))
    assert "and 7 wrong" in refusal("uncertainty_latents", context, own=[facts(33)[0], facts(3)[1]])
    planted["exchanged"] = {f"{name} {i}": False for name in ("Town", "Lake") for i in range(40)}
    assert "All 80 texts are right" in refusal(
        "uncertainty_latents", context, own=[{**each, "questions": ["Say where {entity}?"]} for each in facts(40)]
    )
    bare = [{key: value for key, value in each.items() if key != "questions"} for each in facts(30)]
    assert "has no questions" in refusal("uncertainty_latents", context, own=bare)
