"""The agent as a langgraph graph: scientific steps in order, every one a checkpoint, every loop under limits."""

from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agent import nodes
from agent.inquiry.conclude import conclude
from agent.inquiry.events import Step, StepBegan
from agent.inquiry.lab import MUTE, Lab
from agent.state import VERSION, Case, State, load_case
from store.types import Investigation, now

Body = Callable[[Case, Lab], Awaitable[None]]

STEPS: dict[Step, Body] = {
    "frame": nodes.frame,
    "observe": nodes.observe,
    "hypothesise": nodes.hypothesise,
    "predict": nodes.predict,
    "test": nodes.run_test,
    "judge": nodes.judge,
    "refine": nodes.refine,
    "conclude": conclude,
}


ALWAYS = ("judge", "conclude")  # steps that no limit keeps from happening: what was measured is judged and told


def build(lab: Lab | None = None) -> "StateGraph[State, Lab, State, State]":
    """The graph, uncompiled: compile it with a checkpointer, run it with a `Lab` as its context unless it has one."""
    graph = StateGraph(State, context_schema=None if lab else Lab)  # langgraph's server gives a context of its own
    goals: dict[Any, str] = {name: name for name in STEPS} | {"end": END}
    for name, body in STEPS.items():
        graph.add_node(name, _node(name, body, lab))
        graph.add_conditional_edges(name, _next, goals)
    graph.add_edge(START, "frame")
    return graph


def _next(state: State) -> str:
    case = state.get("case")
    assert case is not None, "every node leaves a case"
    return str(case["next"])


def _node(name: Step, body: Body, own: Lab | None) -> Callable[..., Awaitable[State]]:
    async def node(state: State, runtime: Runtime[Lab]) -> State:
        lab = own or runtime.context
        lab.begin(runtime.stream_writer)
        case = load_case(state, "")
        if case is None:
            case = await _begun(state, lab)
            return {"version": VERSION, "case": case.model_dump(mode="json"), "history": case.history}
        if case.step != name:
            case.step = name
            lab.tell(StepBegan(step=name, round=case.round))
        limit = None if name in ALWAYS else lab.reached(case)
        if limit is not None:
            case.stop(limit, mute=limit in MUTE)
        else:
            await body(case, lab)
        if case.ended is not None and name != "conclude":
            case.goes("judge" if case.undecided else "conclude")
        lab.account(case)
        return {"version": VERSION, "case": case.model_dump(mode="json"), "history": case.history}

    return node


async def _begun(state: State, lab: Lab) -> Case:
    """A fresh case, its question on record."""
    began = now()
    row = Investigation(
        created_at=began,
        thread=lab.thread,
        question=state["question"],
        subject=lab.context.fingerprint,
        model=lab.model,
        dictionary=lab.dictionary,
        hook=lab.hook,
        dtype=str(lab.context.subject.dtype).removeprefix("torch."),
        seed=lab.context.seed,
        llm=lab.llm_name,
        native=lab.native,
        limits=lab.limits.model_dump(mode="json"),
    )
    await lab.once(row, thread=lab.thread, id=row.id)
    return Case(
        thread=lab.thread,
        question=state["question"],
        subject=row.subject,
        investigation=row.id,
        began=began,
        history=list(state.get("history") or []),
    )
