"""What the embedded LLM is worth on planted features: its explanations, and AUROC as a judge.

    python -m tests.benchmarks.judge [--tasks days,german] [--base-url URL --model NAME]

For each feature the judge sees its held-out snippets with three explanations: the true one, the explainer's own and
that of the next feature in the list (wrong on purpose, 0.5 is what it should get).
"""

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

from prompts.ask import LLM
from prompts.local import embedded_endpoint
from prompts.providers import Endpoint, Role
from store.fetch import cache_dir
from store.ledger import Ledger
from tests.planted import PLANTED, Planted, unmarked
from tools.workbench.judging import CANDIDATES, margin
from tools.workbench.stats import auroc

SCORERS = ("detection", "fuzzing")


async def explain(llm: LLM, task: Planted) -> str:
    tokens = dict.fromkeys(token for window in task.explain for token in re.findall(r"<<(.*?)>>", window))
    values = {"windows": task.explain, "tokens": list(tokens)}
    return (await llm.ask(Role.EXPLAINER, "explain_latent", values, max_tokens=48)).text


async def judged(llm: LLM, scorer: str, task: Planted, explanation: str) -> float:
    """AUROC of the judge's margins, positives against negatives."""
    show = unmarked if scorer == "detection" else str
    groups = []
    for snippets in (task.positive, task.negative):
        values = [{"explanation": explanation, "snippet": show(snippet)} for snippet in snippets]
        answers = await llm.ask_many(Role.JUDGE, f"judge_{scorer}", values, top_logprobs=CANDIDATES, max_tokens=1)
        groups.append([found for answer in answers if (found := margin(answer)) is not None])
    return auroc(groups[0], groups[1])


async def measure(endpoint: Endpoint, names: list[str], cache: Path) -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "store.duckdb")
        llm = LLM({Role.EXPLAINER: endpoint, Role.JUDGE: endpoint}, ledger, cache, concurrency=4)
        for i, name in enumerate(names):
            task = PLANTED[name]
            own = await explain(llm, task)
            wrong = PLANTED[names[(i + 1) % len(names)]].truth
            row: dict[str, object] = {"explanation": own}
            for scorer in SCORERS:
                for label, explanation in (("true", task.truth), ("own", own), ("wrong", wrong)):
                    row[f"{scorer} {label}"] = await judged(llm, scorer, task, explanation)
            rows[name] = row
            print(name, json.dumps(row), flush=True)
        await llm.aclose()
        ledger.close()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(PLANTED))
    parser.add_argument("--base-url", help="another endpoint than the embedded LLM")
    parser.add_argument("--model", default="")
    chosen = parser.parse_args()
    found = Endpoint(base_url=chosen.base_url, model=chosen.model) if chosen.base_url else embedded_endpoint()
    started = time.monotonic()
    rows = asyncio.run(measure(found, chosen.tasks.split(","), cache_dir() / "llm" / "benchmark.sqlite"))
    for column in [f"{scorer} {label}" for scorer in SCORERS for label in ("true", "own", "wrong")]:
        values = [float(str(row[column])) for row in rows.values()]
        print(f"{column:16} mean {statistics.mean(values):.2f}  least {min(values):.2f}  most {max(values):.2f}")
    print(f"{time.monotonic() - started:.0f} s")
