"""The rate at which `glossator label` uses an LLM, beside the bare client's, against one stub in one run.

    python -m tests.benchmarks.label [--latents 64] [--in-flight 32] [--latency 0.2] [--tokens 100000] [--workspace W]

The subject, its harvest (the workspace's, or made now), the examples, the prompts, the store and the reply cache are
real; only the LLM is a stub that answers after a fixed time. Bare client and batch take turns, twice; loading and
harvesting are not counted. `calls` are requests sent, `rate` is calls a second, `ratio` that of the medians.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from agent.label import label_latents
from agent.screen.console import quiet_libraries
from agent.session import Session, open_session
from agent.settings import load
from tests.benchmarks.llm import bare, values
from tests.stub_llm import Stub


def measure(
    latents: int = 64,
    in_flight: int = 32,
    latency_s: float = 0.2,
    tokens: int = 100_000,
    workspace: Path | None = None,
    rounds: int = 2,
) -> dict[str, Any]:
    """Requests a second of the bare client and of the batch, and their ratio."""
    rates: dict[str, list[float]] = {"bare": [], "label": []}
    calls: list[int] = []
    quiet_libraries()
    with Stub(latency_s=latency_s, behaviour="words") as stub, tempfile.TemporaryDirectory() as scratch:
        os.environ["GLOSSATOR_LLM_BASE_URL"], os.environ["GLOSSATOR_LLM_MODEL"] = stub.base_url, "stub"
        flags = {"concurrency": in_flight, "tokens": None if workspace else tokens}
        with open_session(load({**flags, "workspace": workspace or Path(scratch) / "harvested"})) as first:
            folder = first.harvest().folder.parent.resolve()
        for number in range(rounds):
            requests = calls[-1] if calls else latents * 100
            rates["bare"].append(asyncio.run(bare(stub.base_url, values(number, requests), in_flight)))
            fresh = Path(scratch) / str(number)
            fresh.mkdir()
            (fresh / "activations").symlink_to(folder)
            with open_session(load({**flags, "workspace": fresh})) as session:
                _reuse(session, first)
                batch = label_latents(session, None, latents, None, ["explain_latent"], ["detection", "fuzzing"])
            calls.append(batch.calls)
            rates["label"].append(batch.calls / batch.seconds)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {"rates": rates, "calls": calls, "ideal": in_flight / latency_s, "ratio": medians["label"] / medians["bare"]}


def _reuse(session: Session, other: Session) -> None:
    """The model is loaded once for all rounds."""
    vars(session)["subject"] = other.subject


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds the stub takes for each reply")
    parser.add_argument("--tokens", type=int, default=100_000, help="size of the harvest, where there is none")
    parser.add_argument("--workspace", type=Path, help="workspace with a harvest to use")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    found = measure(chosen.latents, chosen.in_flight, chosen.latency, chosen.tokens, chosen.workspace, chosen.rounds)
    print(json.dumps(found, indent=2))
