"""`glossator localise`: where in the model a behaviour is computed, without an LLM."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, put
from agent.screen.show import clean, coloured
from agent.settings import load
from store.errors import UserError

if TYPE_CHECKING:
    from agent.localise import Localised

EDGES = 10
NARROW = 60  # cells: below, an interval stands under its value and estimates are left out
SEPARATOR = "|"
PARTS = ("clean", "corrupted", "answer", "other")


def localise(
    template: Annotated[
        str | None, typer.Option(help="ioi, greater_than, capital, agreement, pronoun, days, months or induction.")
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="A pair of your own, 'clean prompt|corrupted prompt| answer| other'; may be repeated."),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Pairs to take from the template.")] = 8,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    seed: o.Seed = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Find where a behaviour is computed: pairs, exact patching, attribution, the circuit, what its heads are.

    No LLM is asked. Every step is an experiment; interrupted, the same command goes on where it was. In float32 unless
    told otherwise: bfloat16 rounds logits more coarsely than most heads move them.
    """
    from agent.inquiry.investigable import PRECISE
    from tools.workbench.templates import Template

    settings = load(locals())
    settings = settings if settings.dtype else settings.model_copy(update={"dtype": PRECISE})
    if template is None and not pair:
        raise UserError("Name a template, as in --template ioi, or give pairs of your own with --pair.")
    if template is not None and pair:
        raise UserError("A template and pairs of your own cannot be mixed: leave out --template or --pair.")
    if template is not None and template not in get_args(Template):
        raise UserError(f"There is no --template {template}: name one of {', '.join(get_args(Template))}.")
    contrast = {"template": template, "n": n} if template else {"pairs": [_pair(text) for text in pair or ()]}
    from agent.localise import localise as run
    from agent.session import open_session

    with open_session(settings) as session:
        found = run(session, contrast)
    emit(document(found), json, lambda console: render(console, found))


def _pair(text: str) -> dict[str, str]:
    parts = text.split(SEPARATOR)
    if len(parts) != len(PARTS):
        raise UserError(
            f"A pair has {len(PARTS)} parts and not {len(parts)}: write 'clean prompt|corrupted prompt| answer| other'."
        )
    return dict(zip(PARTS, parts, strict=True))


def document(found: "Localised") -> dict[str, Any]:
    """Everything found, for JSON: each step's whole output under its tool's name."""
    return {
        "behaviour": found.behaviour,
        "steps": [
            {
                "tool": step.tool,
                "id": step.experiment.id if step.experiment else None,
                "earlier": step.earlier,
                "not_available": step.problem or None,
                "output": step.output or None,
            }
            for step in found.steps
        ],
        "rank_correlation": found.output("attribution_patching").get("correlation"),
        "faithfulness": found.output("circuit_faithfulness").get("faithfulness"),
        "heads": {head["label"]: head["kind"] for head in found.output("head_profile").get("heads", ())},
        "pictures": pictures(found),
        "seconds": found.seconds,
    }


def pictures(found: "Localised") -> list[str]:
    """Their paths, relative to the workspace."""
    return [path for step in found.steps for path in step.output.get("pictures", ())]


def render(console: Console, found: "Localised") -> None:
    """The map, the heads, the circuit and what it does alone, then pictures and rows."""
    _pairs(console, found.output("contrast_pairs"))
    _map(console, found.output("activation_patching"))
    _heads(console, found)
    _circuit(console, found)
    missing = [step for step in found.steps if step.problem]
    for step in missing:
        put(console, Text.assemble(("not available  ", "yellow"), f"{step.tool}: {clean(step.problem)}"))
    console.print()
    for path in pictures(found):
        if path.endswith(".png"):
            console.print(Text(f"picture  {path}  (and .svg)", "dim"), soft_wrap=True)
    rows = "  ".join(f"{step.tool} {step.experiment.id[:8]}" for step in found.steps if step.experiment)
    put(console, Text(f"rows     {rows}", "dim"))


def _pairs(console: Console, found: dict[str, Any]) -> None:
    if found:
        first = found["pairs"][0]
        console.print(Text("pairs", "bold"))
        for name in ("clean", "corrupted"):
            answer = first["answer" if name == "clean" else "other"]
            line = f"  {name:<9} {clean(first[name])} ->{clean(answer)}"
            put(console, Text(line))
        put(console, Text(f"  {clean(found['verdict'])}", "dim"))


def _map(console: Console, found: dict[str, Any]) -> None:
    from agent.screen.plot import heat_map

    if not found or not found["map"]:
        return
    drawn = found["map"]
    console.print(Text(f"\nmap: {found['what']}, exact patching, {found['mode']}", "bold"))
    body = heat_map(drawn["rows"], drawn["columns"], drawn["values"], console.width - 2, coloured(console))
    console.print(Padding(body, (0, 0, 0, 2)))
    told = "; ".join(
        f"{name.replace('_', ' ')} {value:+z.2f}"
        for name, value in found["controls"].items()
        if isinstance(value, float)
    )
    put(console, Text(f"  controls: {told}", "dim"))


def _heads(console: Console, found: "Localised") -> None:
    from agent.localise import heads_of

    output = found.output("attribution_patching")
    if not output:
        return
    kinds = {head["label"]: head for head in found.output("head_profile").get("heads", ())}
    console.print(Text("\nheads", "bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    narrow = console.width < NARROW
    for name in ("head", "exact", "kind") if narrow else ("head", "exact", "interval", "estimate", "kind"):
        table.add_column(name, justify="right" if name in ("exact", "estimate") else "left", no_wrap=name != "kind")
    chosen = heads_of(output)
    rows = {f"L{row['layer']}H{row['index']}": row for row in output["top"]}
    for name in chosen:
        row, kind = rows[name], kinds.get(name)
        interval = "" if row["low"] is None else f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        told = " and ".join([kind["kind"], *kind["also"]]) if kind else "unknown"
        share = row["estimate"] / row["exact"] * row["effect"]
        exact = f"{row['effect']:+.2f}"
        if narrow:
            table.add_row(name, Text(f"{exact}\n{interval}".rstrip()), told)
        else:
            table.add_row(name, exact, Text(interval), f"{share:+.2f}", told)
    console.print(Padding(table, (0, 0, 0, 2)))
    correlation, permuted = output["correlation"], output["controls"]["permuted"]
    told = "unknown" if correlation is None else f"{correlation:.2f}"
    beside = "" if permuted is None else f" (permuted {permuted:.2f})"
    line = f"  rank correlation of attribution with exact patching {told}{beside}, {len(output['misses'])} misses"
    put(console, Text(f"{line}; {'exact is a share' if narrow else 'exact and estimate are shares'} of the gap"))
    if kinds and found.behaviour != "ioi":
        put(console, Text("  kinds are judged on random tokens and on prompts of the template ioi, not on these"))


def _two(value: float) -> str:
    """Two decimals, zero without a sign."""
    return f"{value:z.2f}"


def _circuit(console: Console, found: "Localised") -> None:
    from agent.localise import circuit

    heads, edges = found.output("circuit_faithfulness"), found.output("edge_attribution")
    if not heads and not edges:
        return
    console.print(Text("\ncircuit", "bold"))
    if heads:
        between = "" if heads["low"] is None else f" [{heads['low']:.2f}, {heads['high']:.2f}]"
        random = ", ".join(_two(value) for value in heads["controls"]["random"])
        line = f"  {heads['size']} heads and every MLP: faithfulness {heads['faithfulness']:.2f}{between}"
        put(
            console,
            Text(f"{line}; as many others of their layers {random}; the model without them {_two(heads['without'])}"),
        )
    for size in edges.get("sizes", ()):
        line = f"  {size['edges']:,} edges ({size['share']:.1%}): faithfulness {size['faithfulness']:.2f}"
        put(
            console,
            Text(
                f"{line}; as many on random paths {_two(size['random'])}, from random senders {_two(size['rewired'])}"
            ),
        )
    for row in circuit(edges)[:EDGES]:
        interval = "" if row["low"] is None else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
        console.print(Text(f"  {row['edge']:<24} {row['exact']:+.2f}{interval}"))
