"""Does the embedded model know what it does not know? Its own answers are the labels, no entity is on both sides."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from store.ledger import Ledger
from tests.tools.calling import call
from tools.workbench.context import Context
from tools.workbench.subject import Subject


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this file: answers and activations are asked for once."""
    return tmp_path_factory.mktemp("knowledge")


@pytest.fixture
def context(subject: Subject, workspace: Path) -> Context:
    return Context(subject, Ledger(workspace / "store.duckdb"))


@pytest.mark.usefixtures("rendered")
def test_a_few_cities_are_enough_to_see_it(context: Context, workspace: Path) -> None:
    """Half a minute: what is told is complete and agrees with itself; the bars are those of the whole below."""
    text = {"prompt": "The city of Paris is located in the country of", "entity": "Paris"}
    found = call(
        "hallucination_risk", context, relations=["city"], limit=70, layers=[14], texts=[text], tokens=4, by_token=False
    )
    entity = found["entity"]
    assert found["known"] + found["unknown"] + found["left_out"] + entity["sinks"] == 70
    assert entity["n"] == sum(each["count"] for each in entity["bins"]) == found["known"] + found["unknown"]
    assert entity["low"] <= entity["auroc"] <= entity["high"]
    assert entity["auroc"] > 0.6
    error = sum(each["count"] * abs(each["mean"] - each["share"]) for each in entity["bins"]) / entity["n"]
    assert entity["calibration_error"] == pytest.approx(error)
    (watched,) = found["watched"]
    given, tokens, risks = watched["given"], watched["tokens"], watched["activations"]
    assert "".join(tokens[:given]) == text["prompt"]
    assert tokens[given] == " France"
    assert len(tokens) == len(risks) == given + 4
    assert [token for token, risk in zip(tokens[:given], risks, strict=False) if risk] == [" Paris"]
    assert watched["entity_risk"] == risks[tokens.index(" Paris")]
    assert all(0 <= risk <= 1 for risk in (*watched["activations"], watched["entity_risk"]))
    for path in found["pictures"]:
        assert (workspace / path).stat().st_size > 1000
        if path.endswith(".png"):
            assert np.ptp(matplotlib.image.imread(workspace / path)) > 0.5


def test_steering_begins_with_what_the_model_says_of_itself(context: Context) -> None:
    """Without an edit the known cities are answered rightly and the unknown ones are not, as they were labelled."""
    found = call("steer_entity", context, relations=["city"], limit=70, n=4, refusals=False, known=[1], unknown=[2])
    plain, *others = found["conditions"]
    assert len(others) == 2 + 9 + 3
    assert (plain["known"]["right"]["value"], plain["unknown"]["right"]["value"]) == (1, 0)
    assert (plain["known"]["same"], plain["known"]["refused"]) == (1, None)
    assert 0 < plain["known"]["attention"] < 1
    assert any(other["known"]["same"] < 1 for other in others)
    assert (found["latents_known"], found["latents_unknown"]) == ([1], [2])
    changes = [other["known"]["attention"] - plain["known"]["attention"] for other in others[2:]]
    assert found["controls"]["attention_known_high"] == pytest.approx(max(changes))


def test_latents_are_told_beside_permuted_labels(context: Context) -> None:
    found = call("entity_knowledge", context, relations=["city"], limit=70, n=3)
    assert found["types"] == ["city"]
    for side in ("known", "unknown"):
        scores = [latent["score"] for latent in found[side]]
        assert scores == sorted(scores, reverse=True)
        assert all(latent["density"] <= 0.02 for latent in found[side])
        (best, *_), bar = found[side], found["controls"][f"permuted_{side}"]
        assert (best["p"] <= 3 / 201) == (best["score"] > bar), "99 % of 200 permutations"


@pytest.mark.slow
def test_risk_of_entities_never_seen(context: Context) -> None:
    found = call("hallucination_risk", context)
    entity, controls = found["entity"], found["controls"]
    assert found["known"] + found["unknown"] >= 500
    assert len(found["relations"]) >= 3
    assert found["value"] >= 0.78
    assert found["value"] >= controls["name_log_probability"] + 0.1
    assert abs(controls["shuffled"] - 0.5) <= 0.1
    assert entity["within"] > 0.7
    assert entity["calibration_error"] < 0.1
    assert found["token"]["auroc"] > 0.7


@pytest.mark.slow
def test_latents_separate_what_is_known_and_a_probe_does_it_better(context: Context) -> None:
    found = call("entity_knowledge", context)
    assert found["entities"] >= 500
    best = max(found["known"] + found["unknown"], key=lambda latent: latent["score"])
    assert best["score"] > max(found["controls"]["permuted_known"], found["controls"]["permuted_unknown"])
    assert best["within"] > 0.6
    assert found["controls"]["residual_within"] > best["within"]
