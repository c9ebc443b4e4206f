from tests.benchmarks.llm import measure


def test_recording_and_cache_cost_little():
    """The figure to reach is 0.9 (python -m tests.benchmarks.llm); a busy test machine is given some slack."""
    assert measure(requests=480, rounds=2)["ratio"] > 0.7
