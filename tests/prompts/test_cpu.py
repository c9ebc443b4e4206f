import pytest

from prompts import cpu


@pytest.mark.parametrize(
    ("cores", "load", "threads"),
    [(2, 0.0, 1), (2, 1.7, 1), (2, 9.0, 1), (4, 0.1, 2), (4, 2.5, 1), (16, 0.5, 8), (64, 60.5, 2), (1, 0.0, 1)],
)
def test_one_thread_unless_more_than_two_cores_are_idle(
    cores: int, load: float, threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpu, "_cores", lambda: float(cores))
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    assert cpu.idle_threads() == threads
