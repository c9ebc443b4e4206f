"""Estimated beside measured seconds of the slow patching tools: python -m tests.benchmarks.estimates [TOOL ...]

Both in process time, on a CPU: other work on the machine does not change what a tool computes.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

from store.ledger import Ledger
from tools.dictionaries.load import load_subject
from tools.workbench import costs
from tools.workbench.context import Context
from tools.workbench.registry import get_tool
from tools.workbench.run import run, validate

IOI = {"template": "ioi", "n": 4}
PARTS = ["L23H3", "L23H0", "L24H4", "L20H0", "L29H1", "L29MLP"]
RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("acdc", {"template": "ioi", "n": 2, "candidates": 60}),
    ("activation_patching", {**IOI, "layers": [8, 12, 16, 20, 22, 24, 28]}),
    ("activation_patching", {"template": "ioi", "n": 2, "site": "z", "layers": [20, 23, 24]}),
    ("attribution_patching", {**IOI, "site": "z"}),
    ("edge_attribution", IOI),
    ("path_patching", IOI),
    ("path_patching", {**IOI, "receivers": ["L23H0.q"]}),
    ("self_repair", {**IOI, "parts": PARTS}),
    ("neuron_profile", {}),
)


def main() -> None:
    wanted = set(sys.argv[1:])
    subject = load_subject(dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        context = Context(subject, Ledger(Path(folder, "store.duckdb")))
        for name, input in RUNS:
            if wanted and name not in wanted:
                continue
            tool = get_tool(name)
            with patch.object(costs, "perf_counter", process_time):
                costs.pace.cache_clear()
                estimated = tool.estimate(validate(tool, input), context) if tool.estimate else 0.0
            begun = process_time()
            experiment = asyncio.run(run(name, input, context))
            measured = process_time() - begun
            assert experiment.error is None, experiment.error
            print(f"{name} {input}: {estimated:.1f} s estimated, {measured:.1f} measured, {estimated / measured:.2f}")


if __name__ == "__main__":
    main()
