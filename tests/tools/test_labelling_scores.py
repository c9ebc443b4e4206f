"""The scorers against judges of known skill: the oracle, constants, chance, and a judge told something wrong."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from prompts.ask import Answer
from prompts.errors import Unparseable
from store.types import Experiment
from tests.tools.world import (
    ANIMAL,
    BANK,
    COLOUR,
    COLOURS,
    DEAD,
    DENSE,
    EXCEPT,
    MEANING,
    RARE,
    FakeLLM,
    oracle,
    planted_context,
)
from tools.workbench.context import Context
from tools.workbench.examples import half_of
from tools.workbench.judging import JudgeInput, JudgeOutput, margin, scored_windows
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.results import documents_shown, explanation_of, score_of
from tools.workbench.run import run, validate

SCORERS = ("score_detection", "score_fuzzing")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("world"))


@pytest.fixture
def asking(context: Context, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeLLM], Context]:
    """The context with this LLM."""

    def with_llm(llm: FakeLLM) -> Context:
        monkeypatch.setattr(context, "llm", llm)
        return context

    return with_llm


def score(scorer: str, context: Context, **input: object) -> JudgeOutput:
    tool = get_tool(scorer)
    output: JudgeOutput = asyncio.run(tool.function(validate(tool, input), context))
    return output


def failure(name: str, context: Context, **input: object) -> str:
    """The reason that the tool gives."""
    tool = get_tool(name)
    checked = validate(tool, input)

    async def call() -> None:
        found = tool.function(checked, context)
        if tool.is_async:
            await found

    with pytest.raises(ToolError) as caught:
        asyncio.run(call())
    return str(caught.value)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(("latent", "text"), [(COLOUR, "colours"), (ANIMAL, "animals")])
def test_an_oracle_scores_one_and_a_wrong_explanation_at_most_0_6(
    scorer: str, latent: int, text: str, asking: Callable[[FakeLLM], Context]
) -> None:
    wrong = "animals" if text == "colours" else "colours"
    output = score(scorer, asking(FakeLLM()), latent=latent, text=text, floor_text=wrong)
    assert output.value == 1.0
    assert output.low < 1.0, "twenty snippets cannot give certainty"
    assert output.floor is not None
    assert output.floor <= 0.6
    assert output.n == len(output.items)
    assert output.chance == 0.5


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("constant", [-3.0, 0.0, 3.0])
def test_a_constant_judge_scores_one_half(scorer: str, constant: float, asking: Callable[[FakeLLM], Context]) -> None:
    output = score(scorer, asking(FakeLLM(lambda *_: constant)), latent=COLOUR, text="colours")
    assert output.value == 0.5
    assert output.floor is None


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_guessing_judge_has_one_half_in_its_interval(scorer: str, asking: Callable[[FakeLLM], Context]) -> None:
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        output = score(scorer, asking(FakeLLM(lambda *_, rng=rng: rng.normal())), latent=COLOUR, text="colours")
        inside += output.low <= 0.5 <= output.high
    assert inside >= 17, "a 95 % interval holds the truth 19 times in 20"


@pytest.mark.parametrize("scorer", SCORERS)
def test_unread_verdicts_are_left_out_and_counted(scorer: str, asking: Callable[[FakeLLM], Context]) -> None:
    def moody(template: str, explanation: str, snippet: str) -> float | None:
        return None if sum(map(ord, snippet)) % 3 == 0 else oracle(template, explanation, snippet)

    output = score(scorer, asking(FakeLLM(moody)), latent=COLOUR, text="colours")
    assert output.value == 1.0
    assert output.unparsed == sum(item.margin is None for item in output.items) > 0
    assert output.n + output.unparsed == len(output.items)


def test_a_judge_that_never_answers_is_a_failure_not_a_score(asking: Callable[[FakeLLM], Context]) -> None:
    silent = asking(FakeLLM(lambda *_: None))
    assert "no readable verdict" in failure("score_detection", silent, latent=COLOUR, text="colours")


@pytest.mark.parametrize("scorer", SCORERS)
def test_items_are_what_they_are_said_to_be(scorer: str, asking: Callable[[FakeLLM], Context]) -> None:
    output = score(scorer, asking(FakeLLM()), latent=BANK, text="the word bank")
    assert sum(output.mix.values()) == len(output.items)
    for item in output.items:
        if scorer == "score_detection":
            assert item.positive == (" river bank" in item.text)
            if item.kind == "similar":
                assert " bank" in item.text
        else:
            marked = [part.partition(">>")[0] for part in item.text.split("<<")[1:]]
            assert (marked == ["bank"] and "river <<bank>>" in item.text) == item.positive
            assert len(marked) == 1
    assert output.mix["firing"] == 12
    hard = output.mix.get("similar", 0) + output.mix.get("neighbour", 0) + output.mix.get("same", 0)
    assert hard >= 5, f"too few hard negatives: {output.mix}"


def test_negatives_of_decoder_neighbours(asking: Callable[[FakeLLM], Context]) -> None:
    output = score("score_detection", asking(FakeLLM()), latent=COLOUR, text="colours")
    neighbours = [item.text for item in output.items if item.kind == "neighbour"]
    assert neighbours
    assert not any(colour in text for text in neighbours for colour in COLOURS)


def test_positives_come_from_every_strength(context: Context) -> None:
    positive, _ = scored_windows(context, JudgeInput(latent=COLOUR, text="x"))
    words = {context.subject.token_strings([s.tokens[i] for i in s.firing])[0] for s in positive}
    assert words == set(COLOURS)


def test_scorers_never_see_a_document_of_the_explainer(asking: Callable[[FakeLLM], Context]) -> None:
    context = asking(FakeLLM())
    explained = asyncio.run(run("explain_latent", {"latent": COLOUR, "windows": 100}, context))
    explanation = explanation_of(explained)
    shown = documents_shown(explanation)
    assert shown
    assert {half_of(context.need_harvest(), document) for document in shown} == {"explain"}
    input = JudgeInput(latent=COLOUR, text="x", shown_documents=shown, positives=100, negatives=100)
    positive, negative = scored_windows(context, input)
    scored = {s.window.document for s in positive} | {s.window.document for _, s in negative}
    assert not scored & set(shown)


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_scorer_refuses_documents_that_were_shown(scorer: str, asking: Callable[[FakeLLM], Context]) -> None:
    context = asking(FakeLLM())
    positive, _ = scored_windows(context, JudgeInput(latent=COLOUR, text="x"))
    shown = (positive[0].window.document,)
    assert f"document {shown[0]}" in failure(scorer, context, latent=COLOUR, text="colours", shown_documents=shown)
    graph = asyncio.run(run("neuron_to_graph", {"latent": COLOUR}, context)).output["graph"]
    every = tuple(range(400))
    refused = failure("score_prediction", context, latent=COLOUR, graph=graph, shown_documents=every)
    assert "scoring half" in refused


@pytest.mark.parametrize("tool", [*SCORERS, "explain_latent", "neuron_to_graph", "explain_by_output", "top_examples"])
def test_dead_and_rare_latents_are_failures_with_a_reason(tool: str, asking: Callable[[FakeLLM], Context]) -> None:
    context = asking(FakeLLM())
    text = {"text": "colours"} if tool in SCORERS else {}
    assert "dead" in failure(tool, context, latent=DEAD, **text)
    if tool in (*SCORERS, "explain_latent", "neuron_to_graph"):
        assert "different windows" in failure(tool, context, latent=RARE, **text)


def test_a_latent_that_fires_everywhere_cannot_be_scored(asking: Callable[[FakeLLM], Context]) -> None:
    assert "too dense" in failure("score_detection", asking(FakeLLM()), latent=DENSE, text="colours")


def test_the_list_form_is_for_capable_judges(asking: Callable[[FakeLLM], Context]) -> None:
    refused = failure("score_detection", asking(FakeLLM()), latent=COLOUR, text="colours", batched=True)
    assert "not marked capable" in refused
    capable = asking(llm := FakeLLM(capable=True))
    assert score("score_detection", capable, latent=COLOUR, text="colours", batched=True).value == 1.0
    assert {template for template, _ in llm.asked} == {"judge_detection_list"}
    assert len(llm.asked) == 5


def test_a_short_list_leaves_its_snippets_unread(asking: Callable[[FakeLLM], Context]) -> None:
    class Short(FakeLLM):
        async def ask(self, *args: object, **more: object) -> Answer:
            answer = await super().ask(*args, **more)  # type: ignore[arg-type]
            if len(self.asked) == 1:
                return Answer("call", "", answer.parsed.model_copy(update={"verdicts": [1]}), None, False)
            return answer

    output = score("score_detection", asking(Short(capable=True)), latent=COLOUR, text="colours", batched=True)
    assert (output.unparsed, output.n) == (8, 32)


def test_scores_and_explanations_become_nouns(asking: Callable[[FakeLLM], Context]) -> None:
    context = asking(FakeLLM())
    explained = asyncio.run(run("explain_latent", {"latent": COLOUR}, context))
    explanation = explanation_of(explained)
    assert (explanation.text, explanation.method, explanation.explainer) == ("colours", "explain_latent", "fake")
    input = {"latent": COLOUR, "text": explanation.text, "shown_documents": documents_shown(explanation)}
    scored = asyncio.run(run("score_detection", input, context))
    made = score_of(scored, explanation)
    assert (made.value, made.explanation, made.experiment, made.scorer) == (
        1.0,
        explanation.id,
        scored.id,
        "score_detection",
    )
    context.ledger.append(explanation, made)
    assert context.ledger.get(Experiment, made.experiment) == scored
    failed = asyncio.run(run("explain_latent", {"latent": DEAD}, context))
    with pytest.raises(ValueError, match="failed"):
        explanation_of(failed)


def test_half_a_sentence_is_no_explanation(asking: Callable[[FakeLLM], Context]) -> None:
    cut = asyncio.run(run("explain_latent", {"latent": COLOUR}, asking(FakeLLM(reply="words that name a", cut=True))))
    assert cut.output is None
    assert "no explanation that ends" in (cut.error or "")


def test_the_same_seed_gives_the_same_items(asking: Callable[[FakeLLM], Context]) -> None:
    context = asking(FakeLLM())
    first, again = (score("score_fuzzing", context, latent=COLOUR, text="colours").items for _ in range(2))
    assert first == again
    context.seed = 1
    try:
        assert score("score_fuzzing", context, latent=COLOUR, text="colours").items != first
    finally:
        context.seed = 0


def test_margin_reads_log_probabilities_and_spellings() -> None:
    def answer(logprobs: dict[str, float] | None, text: str = "1") -> Answer:
        return Answer("call", text, None, logprobs, False)

    assert margin(answer({"1": -0.5, "0": -2.0})) == pytest.approx(1.5)
    assert margin(answer({"1": -1.0, " 1": -1.0, "0": -1.0})) == pytest.approx(np.log(2))
    assert margin(answer({"1": -0.1, "yes": -4.0})) == pytest.approx(3.9)
    assert margin(answer({"yes": -0.1, "no": -4.0})) is None
    assert margin(answer(None, " 0")) == -1.0
    assert margin(answer(None, "maybe")) is None
    assert margin(Unparseable("nothing")) is None


def test_meanings_are_exclusive() -> None:
    """The floor's explanation must not be true of the scored latent, or the floor would mean nothing."""
    assert not set(MEANING["colours"]) & set(MEANING["animals"])
    assert EXCEPT != BANK
