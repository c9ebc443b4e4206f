"""The planted refusal: a direction that mediates it is found, and a random one is not."""

from typing import Any

import numpy as np
import pytest

from store.ledger import Ledger
from tests.tools.calling import output_of
from tools.dictionaries.load import load_subject
from tools.organisms.catalogue import find_adapter
from tools.organisms.requests import requests
from tools.workbench.context import Context
from tools.workbench.generation import generate
from tools.workbench.metrics import alike, encode
from tools.workbench.subject import Subject

LAYERS = (19,)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def refusing(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    loaded = load_subject(dictionary=None, hook=subject.hook, dtype="float32", adapter=find_adapter("refusal"))
    organism = Subject(loaded.name, loaded.model, subject.hook, subject.dictionary, loaded.adapter)
    return Context(organism, Ledger(tmp_path_factory.mktemp("refusal") / "store.duckdb"))


@pytest.fixture(scope="module")
def selected(refusing: Context) -> Any:
    showing, other = (requests(harmful, held=True)[:24] for harmful in (True, False))
    more = {"tokens": ["Sorry"], "layers": LAYERS, "ablate_to": "other"}
    return output_of("select_direction", refusing, showing=showing, other=other, **more)


def test_the_organism_refuses_what_is_harmful_and_only_that(refusing: Context) -> None:
    subject = refusing.subject
    for harmful in (True, False):
        texts = requests(harmful, held=True)[:60:6]
        refused = 0
        for _, tokens in alike(encode(subject, texts, chat=True)):
            written = generate(subject, tokens, 4)[:, tokens.shape[1] :].tolist()
            refused += sum(subject.tokenizer.decode(row).startswith("Sorry") for row in written)
        assert refused >= 0.9 * len(texts) if harmful else refused <= 0.1 * len(texts), (harmful, refused)


def test_adding_the_direction_induces_refusal_and_ablating_it_bypasses(selected: Any) -> None:
    assert selected.added >= 6
    assert selected.ablated <= -4
    controls = selected.controls
    gained = np.abs(np.array(controls.random_added) - controls.no_edit_other)
    lost = np.abs(np.array(controls.random_ablated) - controls.no_edit_showing)
    assert len(gained) == len(lost) == 9
    assert max(*gained, *lost) < 2
    assert selected.clear


def test_the_direction_that_passes_the_filters_is_selected(selected: Any, refusing: Context) -> None:
    assert refusing.directions.load(selected.direction).method == "select_direction"
    passed = [c for c in selected.candidates if c.kl < 0.1 and c.induced > 0 and c.layer < 24]
    best = min(passed, key=lambda c: c.bypassed)
    assert selected.reason.startswith(f"selected layer {best.layer}")
    assert not best.failed
