"""Fixtures that are dear: one real model in each of pytest's two processes, one real LLM server for both."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prompts.local import embedded_endpoint
from prompts.providers import Endpoint
from tools.dictionaries.load import load_subject
from tools.organisms.planted.subject import PlantedSubject
from tools.workbench import pictures
from tools.workbench.subject import Subject

SAVE = pictures.save
LONG = (  # files that take a minute or more of a core's time, the longest first
    "test_steering",
    "test_elicitation_ways",
    "test_elicitation",
    "test_facts_inside",
    "test_risk_real",
    "test_probing",
    "test_audit",
    "test_edges",
    "test_patching",
    "test_model_diff",
    "test_local",
    "test_dictionaries",
    "test_ask_ends",
)

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(workers)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that neither process waits for the other at the end."""
    place = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def default_subject() -> Subject:
    """The default subject in float32, loaded once."""
    return load_subject(dtype="float32")


@pytest.fixture(scope="session")
def subject(default_subject: Subject) -> Subject:
    """What the tests of a file look at, unless the file has another."""
    return default_subject


@pytest.fixture(scope="session")
def organism(default_subject: Subject) -> PlantedSubject:
    """The default subject with planted latents, which are out of its model except between `root` and `uproot`."""
    organism = PlantedSubject(default_subject.name, default_subject.model)
    organism.uproot()
    return organism


@pytest.fixture(scope="session")
def embedded_llm() -> Endpoint:
    """The embedded LLM, its server started (its weights fetched on the machine's first run) and shared by all tests."""
    return embedded_endpoint()


def built(picture: pictures.Picture, *paths: Path) -> None:
    """The picture is built, but not rendered, which takes half a second: its files are empty."""
    pictures._figure(picture)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(scope="session", autouse=True)
def unrendered() -> Iterator[None]:
    """What tools draw is built only; tests/tools/test_pictures.py renders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save", built)
        yield


@pytest.fixture(scope="module")
def rendered(unrendered: None) -> Iterator[None]:
    """For the tests of a file that open what a tool has drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save", SAVE)
        yield
