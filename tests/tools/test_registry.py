"""The menu and the one way to run: every tool documented, every run recorded, every bug loud."""

import asyncio
import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from store.errors import UserError
from store.ledger import Ledger
from store.types import Experiment
from tools.workbench import registry
from tools.workbench.context import Context
from tools.workbench.edits import Edit
from tools.workbench.menu import menu
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, get_tool, tool, tools
from tools.workbench.run import run, validate
from tools.workbench.subject import Subject


class Input(ToolInput):
    number: int = 0


class Output(ToolOutput):
    twice: int


def double(input: Input, context: Context) -> Output:
    """Doubles."""
    if input.number == 13:
        raise ToolError("Thirteen cannot be doubled: give another number.")
    if input.number == 99:
        raise ZeroDivisionError
    return Output(twice=2 * input.number)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A context whose menu has one more tool, and whose subject is only a name."""
    tools()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))
    tool(version=3)(double)
    subject = SimpleNamespace(fingerprint="f", device="cpu", adapter=None)
    return Context(subject=cast(Subject, subject), ledger=Ledger(tmp_path / "store.duckdb"))


def test_every_tool_says_what_it_does_and_takes_what_json_can_carry() -> None:
    menu = tools()
    assert len(menu) >= 13
    for found in menu.values():
        assert len(found.doc) > 40, found.name
        assert found.input.model_json_schema()["additionalProperties"] is False
        assert found.output.model_json_schema()["additionalProperties"] is False


def test_a_run_is_an_experiment_in_the_ledger(context: Context) -> None:
    experiment = asyncio.run(run("double", {"number": 4}, context))
    assert experiment.output == {"twice": 8}
    assert (experiment.tool, experiment.version, experiment.subject) == ("double", 3, context.fingerprint)
    assert context.ledger.get(Experiment, experiment.id) == experiment
    again = asyncio.run(run("double", Input(number=4), context))
    assert again.key == experiment.key
    assert again.id != experiment.id, "a replication is a row of its own"


def test_a_tool_error_is_recorded_as_the_outcome(context: Context) -> None:
    experiment = asyncio.run(run("double", {"number": 13}, context))
    assert experiment.output is None
    assert experiment.error == "Thirteen cannot be doubled: give another number."
    assert context.ledger.get(Experiment, experiment.id) == experiment


def test_a_bug_propagates_and_leaves_no_row(context: Context) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run("double", {"number": 99}, context))
    assert context.ledger.find(Experiment) == []


@pytest.mark.parametrize("bad", [{"number": "many"}, {"numbr": 1}, {"number": None}])
def test_bad_input_is_refused_before_anything_runs(context: Context, bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="double cannot take that input"):
        asyncio.run(run("double", bad, context))
    assert context.ledger.find(Experiment) == []


def test_of_many_faults_the_first_are_told() -> None:
    with pytest.raises(UserError) as refused:
        validate(get_tool("ablate"), {"targets": [{"direction": [math.nan] * 576}]})
    assert "targets.0.direction" in str(refused.value)
    assert len(str(refused.value)) < 400
    assert str(refused.value).endswith("more.")


def test_the_menu_that_is_read_is_the_one_that_is_imported() -> None:
    ours = [tool for tool in tools().values() if tool.function.__module__.startswith("tools.")]
    assert menu() == [(tool.name, tool.family, tool.version, tool.doc.partition("\n")[0]) for tool in ours]


def test_an_unknown_tool_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"did you mean explain_latent\?"):
        get_tool("explian_latent")
    with pytest.raises(UserError, match=r"name one of .*explain_latent.*top_examples"):
        get_tool("zzz")


def test_a_tool_states_how_long_it_will_take(context: Context) -> None:
    assert get_tool("double").estimate is None

    def long(input: Input, context: Context) -> Output:
        """Takes three seconds for each of its number."""
        return Output(twice=0)

    assert tool(version=1, estimate=lambda input, context: 3.0 * input.number)(long) is long
    estimate = get_tool("long").estimate
    assert estimate is not None
    assert estimate(Input(number=4), context) == 12.0


def test_tools_that_compute_run_one_at_a_time(context: Context) -> None:
    running, most = 0, 0
    gate = threading.Lock()

    def slow(input: Input, context: Context) -> Output:
        """Counts how many of it run at once."""
        nonlocal running, most
        with gate:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with gate:
            running -= 1
        return Output(twice=0)

    tool(version=1)(slow)

    async def many() -> None:
        await asyncio.gather(*(run("slow", {"number": i}, context) for i in range(5)))

    asyncio.run(many())
    assert most == 1


def test_inputs_may_hold_models_and_may_not_hold_half_a_character() -> None:
    steer = get_tool("steer")
    edit = Edit(operation="add", latent=3, strength=1.0)
    assert validate(steer, {"edits": [edit], "prompts": ["a"]}).edits == (edit,)  # type: ignore[attr-defined]  # steer's
    with pytest.raises(UserError, match="half a character"):
        validate(steer, {"edits": [edit], "prompts": ["\ud800"]})
