"""Scores that ask the model itself, with writers and judges whose skill is known."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prompts.ask import Answer
from prompts.errors import Unparseable
from prompts.providers import Role
from store.types import Score
from tests.tools.world import ANIMALS, COLOURS, FILLERS, FakeLLM, planted_context
from tests.tools.world import COLOUR as LATENT
from tools.workbench.context import Context
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.results import explanation_of, score_of
from tools.workbench.run import run, validate


class Writer(FakeLLM):
    """Writes what it is asked for from `fires`, and near misses from `near`; reply number `broken` cannot be read."""

    def __init__(self, fires: Sequence[str], near: Sequence[str], broken: int | None = None) -> None:
        super().__init__()
        self.words, self.broken = {False: fires, True: near}, broken

    async def ask(self, role: Role, template: str, values: Mapping[str, Any], schema: Any = None, **_: Any) -> Answer:
        if template != "write_texts":
            return await super().ask(role, template, values, schema)
        self.asked.append((template, values))
        if self.broken is not None and len(self.asked) > self.broken:
            raise Unparseable("no answer")
        words = self.words[values["near_miss"] or values["explanation"] != "colours"]
        start = len(self.asked) * 7
        texts = [
            f"{FILLERS[(start + k) % 66]}{words[k % len(words)]}{FILLERS[(start + 2 * k + 1) % 66]}".strip()
            for k in range(values["n"])
        ]
        return Answer("call", "", schema(texts=texts), None, False)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("world"))


def score(context: Context, llm: FakeLLM, monkeypatch: pytest.MonkeyPatch, **input: object) -> Any:
    monkeypatch.setattr(context, "llm", llm)
    tool = get_tool("score_generation")
    return asyncio.run(tool.function(validate(tool, {"latent": LATENT, "text": "colours", **input}), context))


def test_a_right_explanation_scores_one(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    output = score(context, Writer(COLOURS, ANIMALS), monkeypatch, floor_text="animals")
    assert output.value == 1.0
    assert output.low < 1.0
    assert (output.fires, output.misfires) == (1.0, 0.0)
    assert output.floor == 0.5, "texts written from another explanation tell nothing"
    assert output.n == len(output.texts) == 20
    assert output.unparsed == 0
    assert "clear of chance" in output.verdict


def test_one_that_does_not_clear_its_floor_is_said_not_to(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other explanation's texts fire the latent as well as its own do."""
    llm = Writer(COLOURS, ANIMALS)
    output = score(context, llm, monkeypatch, floor_text="colours")
    assert (output.value, output.floor) == (1.0, 1.0)
    assert "not clear of its floor" in output.verdict


def test_one_that_is_too_broad_misfires(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    output = score(context, Writer(COLOURS, COLOURS), monkeypatch)
    assert (output.fires, output.misfires) == (1.0, 1.0)
    assert abs(output.value - 0.5) < 0.3
    assert "not clear" in output.verdict


def test_a_wrong_one_does_not_fire(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    output = score(context, Writer(ANIMALS, FILLERS[:3]), monkeypatch)
    assert output.fires == 0
    assert output.value == 0.5


def test_texts_that_did_not_come_are_counted_and_too_few_are_a_failure(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = score(context, Writer(COLOURS, ANIMALS, broken=3), monkeypatch)
    assert output.unparsed > 0
    assert output.n + output.unparsed == 20
    with pytest.raises(ToolError, match="a score needs 4 of each"):
        score(context, Writer(COLOURS, ANIMALS, broken=1), monkeypatch)


def test_it_becomes_a_score(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(context, "llm", Writer(COLOURS, ANIMALS))
    explanation = explanation_of(asyncio.run(run("explain_latent", {"latent": LATENT}, context)))
    made = asyncio.run(run("score_generation", {"latent": LATENT, "text": explanation.text}, context))
    found = score_of(made, explanation)
    assert isinstance(found, Score)
    assert found.scorer == "score_generation"
    assert made.controls["auroc"] is not None
