"""Neuron-to-Graph and its score on latents that fire by a written rule."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.calling import output_of
from tests.tools.world import BANK, COLOUR, COLOURS, EXCEPT, ID, WORDS, fires, planted_context
from tools.labelling.neuron_to_graph import last_activation
from tools.workbench.context import Context
from tools.workbench.graph import ANY, Graph, Path, merge, minimal_path, paths_of, predict, prune
from tools.workbench.registry import ToolError
from tools.workbench.results import documents_shown, explanation_of
from tools.workbench.run import run


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("world"))


def ids(text: str) -> list[int]:
    return [ID[f" {word}"] for word in text.split()]


def words(tokens: tuple[int, ...]) -> str:
    return "".join("*" if token == ANY else WORDS[token] for token in tokens)


def graph_of(latent: int, context: Context) -> tuple[Graph, dict[str, Any]]:
    output = output_of("neuron_to_graph", context, latent=latent)
    return Graph.model_validate(output.graph), output.graph


@pytest.mark.parametrize(("latent", "path"), [(EXCEPT, " all except"), (BANK, " river bank")])
def test_the_minimal_context_is_exactly_the_rule(latent: int, path: str, context: Context) -> None:
    graph, _ = graph_of(latent, context)
    assert [words(tokens) for tokens, _, _ in paths_of(graph)] == [path]
    assert output_of("neuron_to_graph", context, latent=latent).text == f"the last token of: '{path}'"


def test_a_latent_of_single_words_has_paths_of_one_token(context: Context) -> None:
    graph, _ = graph_of(COLOUR, context)
    assert {words(tokens) for tokens, _, _ in paths_of(graph)} == set(COLOURS)
    strengths = {words(tokens): value for tokens, value, _ in paths_of(graph)}
    assert strengths[" red"] < strengths[" green"] < strengths[" blue"] <= 1


@pytest.mark.parametrize("latent", [EXCEPT, BANK, COLOUR])
def test_f1_on_held_out_text_and_its_floors(latent: int, context: Context) -> None:
    _, graph = graph_of(latent, context)
    _, other = graph_of(BANK if latent == EXCEPT else EXCEPT, context)
    output = output_of("score_prediction", context, latent=latent, graph=graph, floor_graph=other)
    assert output.value >= 0.95
    assert output.permuted < 0.3
    assert output.floor < 0.3
    assert output.chance < 0.3
    assert output.low <= output.value <= output.high
    assert output.precision.value >= 0.95
    assert output.recall.value >= 0.95


def test_a_graph_of_half_the_rule_has_the_recall_it_should(context: Context) -> None:
    _, whole = graph_of(COLOUR, context)
    half = {**whole, "roots": [root for root in whole["roots"] if root["token"] == ID[" red"]]}
    output = output_of("score_prediction", context, latent=COLOUR, graph=half)
    assert output.precision.value == 1.0
    assert 0 < output.recall.value < 0.7
    f1 = 2 * output.recall.value / (1 + output.recall.value)
    assert output.value == pytest.approx(f1)
    assert output.chance == pytest.approx(2 * output.firing_tokens / (output.firing_tokens + output.n))


def test_the_graph_is_an_explanation_scored_on_other_documents(context: Context) -> None:
    explained = asyncio.run(run("neuron_to_graph", {"latent": EXCEPT}, context))
    explanation = explanation_of(explained)
    assert explanation.explainer == "none"
    shown = documents_shown(explanation)
    scored = asyncio.run(
        run("score_prediction", {"latent": EXCEPT, "graph": explanation.graph, "shown_documents": shown}, context)
    )
    assert scored.error is None
    assert scored.output["judge"] == "none"


def test_a_bad_graph_is_refused(context: Context) -> None:
    with pytest.raises(ToolError, match="not a graph"):
        output_of("score_prediction", context, latent=EXCEPT, graph={"roots": 3})


def test_measuring_a_context_alone_equals_the_rule(context: Context) -> None:
    measure = last_activation(context, EXCEPT)
    contexts = [ids("all except"), ids("except"), ids("ba be bi all except"), ids("all")]
    truth = [fires(["<s>", *(WORDS[t] for t in c)])[-1, EXCEPT] for c in contexts]
    assert measure(contexts) == truth == [8.0, 0.0, 8.0, 0.0]


def test_a_context_that_ends_on_a_sink_measures_nothing(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with_colour = [[ID[COLOURS[0]]]]
    assert last_activation(context, COLOUR)(ends_with_colour)[0] > 0
    monkeypatch.setattr(context.subject, "sinks", lambda residual: torch.ones(residual.shape[:2], dtype=torch.bool))
    assert last_activation(context, COLOUR)(ends_with_colour) == [0.0]


def test_prune_and_saliency_by_hand() -> None:
    """A unit that fires 10 on c after b, or 6 when b is missing but a came before; nothing else counts."""

    def measure(contexts: list[list[int]]) -> list[float]:
        a, b, c = 1, 2, 3
        return [
            (10.0 if b in tokens else 6.0 if a in tokens else 0.0) if tokens[-1] == c else 0.0 for tokens in contexts
        ]

    assert prune([1, 2, 9, 3], measure) == ([2, 9, 3], 10.0)
    path = minimal_path([1, 2, 9, 3], measure, masks=[7, 8])
    assert path == Path((3, ANY, 2), 10.0)
    assert prune([1, 9, 4], measure) is None


def test_merge_shares_nodes_and_averages_equal_paths() -> None:
    graph = merge([Path((3, 2), 10.0), Path((3, 2), 6.0), Path((3,), 2.0), Path((3, ANY, 1), 5.0)])
    assert graph.scale == 10.0
    assert [root.token for root in graph.roots] == [3]
    found = {tokens: (value, count) for tokens, value, count in paths_of(graph)}
    assert found == {(2, 3): (0.8, 2), (3,): (0.2, 1), (1, ANY, 3): (0.5, 1)}
    np.testing.assert_allclose(predict(graph, [3, 2, 3, 1, 9, 3, 4]), [0.2, 0, 0.8, 0, 0, 0.5, 0])
    with pytest.raises(ValueError, match="at least one"):
        merge([])
