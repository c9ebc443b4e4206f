"""What most tests of tools begin with."""

from pathlib import Path

import pytest

from store.ledger import Ledger
from tools.workbench.context import Context
from tools.workbench.subject import Subject


@pytest.fixture
def context(subject: Subject, tmp_path: Path) -> Context:
    """The file's subject in a workspace of its own for each test, unless the file has another."""
    return Context(subject, Ledger(tmp_path / "store.duckdb"))
