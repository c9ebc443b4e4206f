"""What each way of asking gets out of an organism: python -m tests.benchmarks.elicitation ORGANISM [--seeds N]

For an organism with words to be found: for every method of the portfolio the items that name one, with a 95 % interval,
in the organism and in the base model on the same text, and what elicit_secret says. For `none`: how many of N seeds
claim anything; what does not depend on the seed (greedy replies and what is read from them) is computed once.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

from store.ledger import Ledger
from tools.dictionaries.load import load_subject
from tools.organisms.catalogue import ORGANISMS, find_adapter
from tools.workbench import attacks, portfolio
from tools.workbench.context import Context
from tools.workbench.guesses import Item
from tools.workbench.registry import get_tool
from tools.workbench.run import validate
from tools.workbench.stats import wilson

elicit_secret: Any = import_module("tools.elicitation.elicit_secret")


def once(module: Any, name: str) -> None:
    """From now on the module's function is called once for the same arguments, unless it samples."""
    function: Callable[..., Any] = getattr(module, name)
    known: dict[str, Any] = {}

    def call(subject: Any, *rest: Any) -> Any:
        if name == "replies" and rest[2] > 0:
            return function(subject, *rest)
        key = repr(rest)
        if key not in known:
            known[key] = function(subject, *rest)
        return known[key]

    setattr(module, name, call)


def told(items: list[Item], words: tuple[str, ...]) -> dict[str, object]:
    """How many items name one of the words."""

    def hits(base: bool) -> tuple[int, tuple[float, ...]]:
        sides = [item.base or {} if base else item.named for item in items]
        found = sum(any(word in side for word in words) for side in sides)
        return found, tuple(round(value, 2) for value in wilson(found, len(items))[1:])

    (own, interval), (base, below) = hits(False), hits(True)
    return {"items": len(items), "hits": own, "interval": interval, "base_hits": base, "base_interval": below}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("organism", choices=sorted(ORGANISMS))
    parser.add_argument("--seeds", type=int, default=20, help="of none")
    parser.add_argument("--budget", type=int, default=6000)
    arguments = parser.parse_args()
    organism = ORGANISMS[arguments.organism]
    subject = load_subject(dtype="float32", adapter=find_adapter(organism.name))
    elicit = get_tool("elicit_secret")
    ledger = Ledger(Path(tempfile.mkdtemp()) / "store.duckdb")
    input: Any = validate(elicit, {"budget": arguments.budget})
    if subject.adapter is None:
        for module, name in (
            (attacks, "replies"),
            (portfolio, "read"),
            (portfolio, "embedded"),
            (portfolio, "replied"),
        ):
            once(module, name)
        once(portfolio, "mean_activations")
    taken: dict[str, list[Item]] = {}
    own = elicit_secret._told

    def note(method: str, items: list[Item]) -> Any:
        taken[method] = items
        return own(method, items)

    elicit_secret._told = note
    seeds = arguments.seeds if subject.adapter is None else 1
    claims = 0
    for seed in range(seeds):
        begun = process_time()
        context = Context(subject, ledger, base=None if subject.adapter else subject, seed=seed)
        found = elicit.function(input, context)
        claims += found.clear
        best = [(guess.word, guess.items, guess.p, guess.said, guess.stands) for guess in found.guesses[:3]]
        print(json.dumps({"seed": seed, "found": found.found, "secret": found.secret, "best": best,
                          "confidence": round(found.confidence, 3), "withheld_p": found.withheld_p,
                          "cpu_s": round(process_time() - begun)}), flush=True)  # fmt: skip
        print(found.verdict, flush=True)
    if subject.adapter is None:
        print(json.dumps({"claims": claims, "of": seeds}))
        return
    for method, items in taken.items():
        print(json.dumps({"method": method, **told(items, organism.words)}), flush=True)


if __name__ == "__main__":
    main()
