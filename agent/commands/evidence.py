"""`glossator evidence` and `glossator hypotheses`: what claims rest on."""

import json as jsons
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.commands import options as o
from agent.screen.console import emit, put
from agent.screen.show import clean
from agent.settings import load

if TYPE_CHECKING:
    from agent.inquiry.dossier import Dossier
    from store.types import Fact, Hypothesis

SHADE = {"supported": "green", "refuted": "red", "untested": "dim"}
LONGEST = 2000  # characters of an output on a terminal; --json has all

ThreadOption = Annotated[str | None, typer.Option("--thread", help="Only this thread.")]


def hypotheses(thread: ThreadOption = None, workspace: o.Workspace = None, json: o.Json = False) -> None:
    """Every hypothesis with its predictions, their tests and verdicts, and the one it refines."""
    from agent.inquiry.dossier import dossiers, hypothesis_document
    from agent.session import open_session

    with open_session(load(locals())) as session:
        session.need_workspace()
        found = dossiers(session.ledger, thread)
    document = [
        {
            "thread": dossier.investigation.thread,
            "question": dossier.investigation.question,
            "hypotheses": [hypothesis_document(dossier, h) for h in dossier.evidence.hypotheses.values()],
        }
        for dossier in found
    ]

    def render(console: Console) -> None:
        print_hypotheses(console, found)
        if not found:
            console.print('No hypotheses yet; glossator ask "what does latent 7 do?" states some.')

    emit(document, json, render)


def evidence(
    id: Annotated[str | None, typer.Argument(help="Id of any row, or its first digits.")] = None,
    thread: ThreadOption = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """The experiments that investigations made, or all there is to one row."""
    from agent.inquiry.dossier import dossiers, experiment_document
    from agent.session import open_session
    from store.types import Experiment

    with open_session(load(locals())) as session:
        session.need_workspace()
        fact = None if id is None else session.ledger.resolve(id)
        known = dossiers(session.ledger, thread) if fact is None or isinstance(fact, Experiment) else []
    if fact is not None:
        row = {"id": fact.id, "table": fact.table, **fact.model_dump(mode="json")}
        emit(row, json, lambda console: print_fact(console, fact, known))
        return
    found = [
        experiment_document(dossier, experiment)
        for dossier in known
        for experiment in dossier.evidence.experiments.values()
    ]

    def render(console: Console) -> None:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in ("id", "thread", "tool"):
            table.add_column(heading, no_wrap=True)
        table.add_column("verdict", overflow="fold")
        for row in found:
            cells = (str(row["id"])[:8], str(row["thread"]), str(row["tool"]), str(row["verdict"]))
            table.add_row(*(Text(clean(cell)) for cell in cells))
        console.print(table if found else 'No evidence yet; glossator ask "what does latent 7 do?" gathers some.')

    emit(found, json, render)


def print_hypotheses(console: Console, found: "Sequence[Dossier]") -> None:
    """The hypotheses of each investigation under its question."""
    for dossier in found:
        console.print(Text(clean(f"{dossier.investigation.thread}  {dossier.investigation.question}"), "bold"))
        for hypothesis in dossier.evidence.hypotheses.values():
            _print_hypothesis(console, dossier, hypothesis)
        if not dossier.evidence.hypotheses:
            ended = f"it ended before any: {dossier.conclusion.reason}" if dossier.conclusion else "still open"
            console.print(Text(f"  no hypothesis; {ended}", "dim"))


def _print_hypothesis(console: Console, dossier: "Dossier", hypothesis: "Hypothesis") -> None:
    from agent.inquiry.dossier import verdict

    standing = dossier.evidence.standing(hypothesis.id)
    head = Text("  ").append(standing, SHADE[standing]).append(f"  {hypothesis.id[:8]}  {clean(hypothesis.claim)}")
    head.append(" (dull)" if hypothesis.dull else "", "dim")
    head.append(f"  refines {hypothesis.refines[:8]}" if hypothesis.refines else "", "dim")
    put(console, head)
    for prediction, judgement in dossier.predictions(hypothesis):
        at = f" [{judgement.experiment[:8]}]" if judgement else ""
        put(console, Text(f"      {prediction.id[:8]}  {prediction.sentence}: {verdict(prediction, judgement)}{at}"))


def print_fact(console: Console, fact: "Fact", holders: "Sequence[Dossier]") -> None:
    """A row field by field, an experiment drawn; below it the predictions it decided and the claims that cite it."""
    from agent.screen.panels import call_of, call_panel
    from store.types import Experiment

    console.print(Text(f"{fact.table}/{fact.id}", "dim"))
    if isinstance(fact, Experiment):
        why = next((use.why for holder in holders for use in holder.uses if use.experiment == fact.id), "")
        console.print(call_panel(call_of(fact, why), console))
    else:
        for name, value in fact.model_dump(mode="json").items():
            text = value if isinstance(value, str) else jsons.dumps(value, ensure_ascii=False)
            put(console, Text(f"  {name}: ", "dim") + Text(clean(text)[:LONGEST]))
    print_consequences(console, fact.id, holders)


def print_consequences(console: Console, experiment: str, holders: "Sequence[Dossier]") -> None:
    """The predictions that an experiment decided, and the claims that cite it."""
    from agent.inquiry.dossier import verdict

    for dossier in holders:
        for judgement in dossier.evidence.judgements:
            if judgement.experiment == experiment:
                prediction = dossier.evidence.predictions[judgement.prediction]
                claim = clean(dossier.evidence.hypotheses[prediction.hypothesis].claim)
                line = f"  decides {prediction.sentence} of “{claim}”: {verdict(prediction, judgement)}"
                put(console, Text(line))
        for cited in dossier.conclusion.claims if dossier.conclusion else ():
            if experiment in cited.evidence:
                line = f"  cited in {clean(dossier.investigation.thread)}: {clean(cited.sentence)}"
                put(console, Text(line))
