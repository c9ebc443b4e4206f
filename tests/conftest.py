"""Fixtures that are dear: one real model and one real LLM server per test run."""

import pytest

from prompts.local import embedded_endpoint
from prompts.providers import Endpoint
from tools.dictionaries.load import load_subject
from tools.workbench.subject import Subject


@pytest.fixture(scope="session")
def subject() -> Subject:
    """The default subject in float32, loaded once."""
    return load_subject(dtype="float32")


@pytest.fixture(scope="session")
def embedded_llm() -> Endpoint:
    """The embedded LLM, its server started (its weights fetched on the machine's first run) and shared by all tests."""
    return embedded_endpoint()
