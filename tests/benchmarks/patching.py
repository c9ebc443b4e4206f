"""Exact patching against the plain loop, in one run: python -m tests.benchmarks.patching [--pairs N] [--sites N]

Both measure the logit difference under single patches on the same IOI pairs. The plain loop gives each patch a whole
`run_with_hooks` on all pairs at once; it takes `--sites` of the sites, spread evenly, since it is slow. Attribution is
timed on `--batch` pairs, in forward and backward passes over them.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from store.ledger import Ledger
from tools.dictionaries.load import load_subject
from tools.workbench.attribution import estimated
from tools.workbench.context import Context
from tools.workbench.edge_scores import edge_scores
from tools.workbench.edges import Edges
from tools.workbench.gradients import Graph
from tools.workbench.pairs import Batch, Contrast, aligned, batch, measure
from tools.workbench.patching import Patch, Patcher
from tools.workbench.sites import Kind, Site, point, sweep
from tools.workbench.subject import Subject

LAYERS = 5  # of a turn
clock = perf_counter if torch.cuda.is_available() else process_time  # on a CPU other work on the machine does not count
TURNS = 3


def loop(subject: Subject, own: Batch, sites: Sequence[Site]) -> np.ndarray:
    """float64[sites, n]: corrupted values put into the clean prompts, one pass for each site."""
    theirs: dict[str, torch.Tensor] = {}
    points = list(dict.fromkeys(point(subject, *site.at) for site in sites))

    def keep(value: torch.Tensor, hook: object, name: str) -> None:
        theirs[name] = value

    answers, others = own.answer[:, None].to(subject.device), own.other[:, None].to(subject.device)
    clean, corrupted = own.clean.to(subject.device), own.corrupted.to(subject.device)
    with torch.no_grad():
        looks = [(name, lambda value, hook, n=name: keep(value, hook, n)) for name in points]
        subject.model.run_with_hooks(corrupted, return_type=None, fwd_hooks=looks)
        found = []
        for site in sites:
            name = point(subject, *site.at)
            at = slice(None) if site.position is None else site.position
            where = (slice(None), at) if site.index is None else (slice(None), at, site.index)

            def put(value: torch.Tensor, hook: object, where: tuple = where, name: str = name) -> torch.Tensor:
                value = value.clone()
                value[where] = theirs[name][where]
                return value

            logits = subject.model.run_with_hooks(clean, return_type="logits", fwd_hooks=[(name, put)])[:, -1]
            found.append((logits.gather(-1, answers) - logits.gather(-1, others))[:, 0].double().cpu().numpy())
    return np.stack(found)


def compared(context: Context, pairs: int, kind: Kind, each: bool, n: int) -> dict[str, object]:
    """Patches a second both ways, on the sites of one kind; the two take turns, a few layers at a time."""
    subject = context.subject
    kept = aligned(subject, Contrast(template="ioi", n=pairs)).same_places(subject).kept
    own = batch(kept)
    positions = range(own.clean.shape[1]) if each else (None,)
    begun = clock()
    patcher = Patcher(context, own, measure(subject, kept, "logit_difference"), "noising")
    quick, slow, patched, looped, worst = [clock() - begun], [], 0, 0, 0.0
    for layer in range(0, subject.n_layers, LAYERS):
        sites = sweep(subject, kind, range(layer, min(layer + LAYERS, subject.n_layers)), positions)
        taken = list(range(0, len(sites), max(1, len(sites) * subject.n_layers // (n * LAYERS))))
        begun = clock()
        values = patcher.run([Patch((site,)) for site in sites])
        middle = clock()
        plain = loop(subject, own, [sites[i] for i in taken])
        quick.append(middle - begun)
        slow.append(clock() - middle)
        patched, looped = patched + len(sites), looped + len(taken)
        worst = max(worst, float(np.abs(values[taken] - plain).max()))
    rates = patched / sum(quick), looped / sum(slow)
    return {
        "sites": patched,
        "pairs": pairs,
        "patches_per_s": round(rates[0], 2),
        "loop_per_s": round(rates[1], 2),
        "ratio": round(rates[0] / rates[1], 1),
        "largest_difference": worst,
    }


def attributed(context: Context, pairs: int) -> dict[str, object]:
    """What attribution over all heads and positions, and over all edges, takes beside a forward and backward pass."""
    subject = context.subject
    kept = aligned(subject, Contrast(template="ioi", n=pairs)).same_places(subject).kept
    own, metric = batch(kept), measure(subject, kept, "logit_difference")
    patcher, edges = Patcher(context, own, metric, "noising"), Edges(context, own, metric)
    sites = sweep(subject, "z", positions=range(own.clean.shape[1]))
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(TURNS):
        for name, work in (
            ("pass", lambda: Graph(subject, own.clean, patcher.reader, range(len(kept)), [subject.residual_points[0]])),
            ("heads", lambda: estimated(patcher, sites, grad_drop=False)),
            ("edges", lambda: edge_scores(edges)),
        ):
            begun = clock()
            made = work()
            if isinstance(made, Graph):
                made.gradients()
            seconds[name].append(clock() - begun)
    quickest = {name: min(own) for name, own in seconds.items()}
    return {
        "pairs": len(kept),
        "forward_backward_s": round(quickest["pass"], 2),
        "heads x positions": len(sites),
        "heads_in_passes": round(quickest["heads"] / quickest["pass"], 2),
        "edges": int(edges.exists.sum()),
        "edges_in_passes": round(quickest["edges"] / quickest["pass"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--sites", type=int, default=36)
    parser.add_argument("--batch", type=int, default=32, help="pairs that attribution is timed on")
    arguments = parser.parse_args()
    subject = load_subject(dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        context = Context(subject, Ledger(Path(folder, "store.duckdb")))
        figures: dict[str, object] = {"device": str(subject.device)}
        kinds: tuple[tuple[Kind, bool], ...] = (("resid_pre", True), ("z", False))
        for kind, each in kinds:
            name = f"{kind}, {'each position' if each else 'all positions together'}"
            figures[name] = compared(context, arguments.pairs, kind, each, arguments.sites)
        figures["attribution"] = attributed(context, arguments.batch)
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
