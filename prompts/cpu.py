"""How many threads the embedded LLM may use without starving the rest of the machine."""

import os
from pathlib import Path

MOST_THREADS = 8  # llama.cpp gains little from more on a model this small


def idle_threads() -> int:
    """One, unless more than two cores are idle: threads that share a core slow each other down several times."""
    idle = int(_cores() - os.getloadavg()[0])
    return min(idle - 1, MOST_THREADS) if idle > 2 else 1


def _cores() -> float:
    """Cores this process may use: its affinity, and the limit of its container where there is one."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores
