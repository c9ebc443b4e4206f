"""Two writers and four readers at once for a few seconds; `tests/benchmarks/store.py` is the long version."""

from tests.benchmarks.store import READERS, WRITERS, hammer


def test_nothing_is_lost_torn_or_refused(tmp_path):
    outcomes, lost = hammer(tmp_path / "glossator.duckdb", seconds=4)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert lost == 0
    assert sum(outcome.torn for outcome in outcomes) == 0
    assert [outcome.role for outcome in outcomes].count("writer") == WRITERS
    assert [outcome.role for outcome in outcomes].count("reader") == READERS
    assert all(outcome.transactions >= 3 for outcome in outcomes)  # everybody had turns
