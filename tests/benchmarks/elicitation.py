"""What each way of asking gets out of an organism: python -m tests.benchmarks.elicitation ORGANISM [--seeds N]

For every method of elicit_secret and the two tools beside it, the items that name one of the organism's words, with
a 95 % interval, in the organism and in the base model on the same text; then how many plain prompts are withheld, and
what elicit_secret says. For `none`: how many of N seeds claim anything.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

from store.ledger import Ledger
from tools.dictionaries.load import load_subject
from tools.organisms.catalogue import ORGANISMS, find_adapter
from tools.organisms.suppressed_capital import CITY, HELD
from tools.workbench import attacks, portfolio
from tools.workbench.attacks import QUESTIONS, filled
from tools.workbench.context import Context
from tools.workbench.guesses import Item
from tools.workbench.registry import get_tool
from tools.workbench.run import validate
from tools.workbench.stats import wilson
from tools.workbench.words import says

elicit_secret: Any = import_module("tools.elicitation.elicit_secret")
ALIKE = (  # functions whose value does not depend on the seed, but for replies that are sampled
    (attacks, "replies"), (portfolio, "read"), (portfolio, "embedded"), (portfolio, "replied"),
    (portfolio, "mean_activations"),
)  # fmt: skip


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called once for the same arguments unless it samples."""
    known: dict[str, Any] = {}

    def call(subject: Any, *rest: Any) -> Any:
        if function.__name__ == "replies" and rest[2] > 0:
            return function(subject, *rest)
        key = repr(rest)
        if key not in known:
            known[key] = function(subject, *rest)
        return known[key]

    return call


def told(method: str, own: Sequence[bool], base: Sequence[bool]) -> None:
    """How many items name one of the words."""
    row: dict[str, object] = {"method": method, "items": len(own)}
    for side, hits in (("own", own), ("base", base)):
        found = wilson(sum(hits), len(hits))
        row |= {side: sum(hits), f"{side}_interval": (round(found.low, 2), round(found.high, 2))}
    print(json.dumps(row), flush=True)


def used(context: Context, name: str, **input: object) -> Any:
    tool = get_tool(name)
    return tool.function(validate(tool, input), context)


def beside_the_portfolio(context: Context, topic: str, words: tuple[str, ...]) -> None:
    shaken = used(context, "activation_fuzzing", topic=topic).asked
    described = used(context, "patchscope", prompts=[filled(question, topic) for question in QUESTIONS]).descriptions
    for method, texts in (
        ("activation_fuzzing", [(each.reply, each.base) for each in shaken]),
        ("patchscope", [(each.text, each.base) for each in described]),
    ):
        own, base = ([any(says(text, word) for word in words) for text in side] for side in zip(*texts, strict=True))
        told(method, own, base)


def lens(context: Context) -> None:
    held = {frame.format(city): land for city, land in HELD.items() for frame in CITY[:3]}
    more = {"answers": tuple(held.values()), "layers": (23, 24, 25)}
    print(used(context, "logit_lens_secret", prompts=tuple(held), **more).verdict, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("organism", choices=sorted(ORGANISMS))
    parser.add_argument("--topic", default="the secret word")
    parser.add_argument("--seeds", type=int, default=20, help="of none")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    organism = ORGANISMS[arguments.organism]
    subject = load_subject(dtype=arguments.dtype, adapter=find_adapter(organism.name))
    ledger = Ledger(Path(tempfile.mkdtemp()) / "store.duckdb")
    if subject.adapter is None:
        for module, name in ALIKE:
            setattr(module, name, once(getattr(module, name)))
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
        found = used(context, "elicit_secret", topic=arguments.topic, n=50)
        claims += found.clear
        seconds = round(process_time() - begun)
        print(json.dumps({"seed": seed, "found": found.found, "secret": found.secret, "cpu_s": seconds}), flush=True)
        print(found.verdict, found.skipped, flush=True)
    if subject.adapter is None:
        print(json.dumps({"claims": claims, "of": seeds}))
        return
    words = tuple(word.lower() for word in organism.words if word not in arguments.topic)
    for method, items in taken.items():
        sides = [item.named for item in items], [item.base or {} for item in items]
        told(method, *([any(word in named for word in words) for named in side] for side in sides))
    back = [each.excess >= elicit_secret.LEAST and each.excess > each.chance for each in found.withheld]
    print(json.dumps({"withheld": sum(back), "of": len(back), "base": found.controls.withheld}), flush=True)
    beside_the_portfolio(context, arguments.topic, words)
    if organism.name == "suppressed-capital":
        lens(context)


if __name__ == "__main__":
    main()
