"""Scores a graph by what it predicts on text it was not built from."""

from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from store.activations import Harvest, Window
from tools.workbench.context import Context
from tools.workbench.examples import need_firings, top
from tools.workbench.graph import Graph, predict
from tools.workbench.judging import refuse_shown
from tools.workbench.negatives import pool
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.results import ScoreOutput
from tools.workbench.stats import BOOTSTRAPS, CONFIDENCE

MIN_WINDOWS = 5
FIRES = 0.5  # of the graph's scale: firing, as predicted and in truth (Foote et al. 2304.12918)


class Input(ToolInput):
    """A graph of neuron_to_graph, the documents it was built from, and another latent's graph as the floor."""

    latent: int
    graph: dict[str, Any]
    shown_documents: tuple[int, ...] = Field((), description="documents the graph was built from")
    floor_graph: dict[str, Any] | None = Field(None, description="another latent's graph, scored on the same windows")
    windows: int = Field(20, ge=MIN_WINDOWS, le=50, description="with its highest peaks; and as many random ones")


class Estimate(ToolOutput):
    """A share with its 95 % interval (bootstrap over windows)."""

    value: float
    low: float
    high: float


class Output(ScoreOutput):
    """`value` is F1 over the `n` tokens of `windows` windows. `chance`: F1 of calling every token firing, the best that
    can be had without looking. `permuted`: F1 with the predictions shuffled over the tokens. Half of the windows hold
    high peaks, so precision is that of this mixture, not of running text."""

    precision: Estimate
    recall: Estimate
    permuted: float
    windows: int
    firing_tokens: int


@tool(version=1)
def score_prediction(input: Input, context: Context) -> Output:
    """Scores a graph by precision, recall and F1 of its predictions on windows of documents it was not built from.

    A token fires when its activation is at least half of the graph's scale. No LLM takes part.
    """
    latent = context.subject.latent(input.latent)
    harvest = context.need_harvest()
    need_firings(harvest, input.latent)
    graph = _graph(input.graph)
    windows = _windows(context, harvest, input)
    refuse_shown(harvest, windows, input.shown_documents)
    truth = _truth(harvest, input.latent, windows, FIRES * graph.scale)
    firing_tokens = sum(int(fired.sum()) for fired in truth)
    if not firing_tokens:
        raise ToolError(
            f"Latent {input.latent} reaches half of the graph's scale ({graph.scale:.2f}) nowhere in the scoring half: "
            "there is nothing to predict; harvest more text."
        )
    predicted = _predicted(graph, windows)
    rng = context.rng("score_prediction", input.latent)
    value, low, high = _bootstrapped(predicted, truth, rng)
    n = sum(map(len, truth))
    base = firing_tokens / n
    return Output(
        latent=str(latent),
        judge="none",
        value=value[2],
        low=low[2],
        high=high[2],
        chance=2 * base / (1 + base),
        floor=_scores(_counts(_predicted(_graph(input.floor_graph), windows), truth))[2] if input.floor_graph else None,
        n=n,
        unparsed=0,
        precision=Estimate(value=value[0], low=low[0], high=high[0]),
        recall=Estimate(value=value[1], low=low[1], high=high[1]),
        permuted=_scores(_counts(_shuffled(predicted, rng), truth))[2],
        windows=len(windows),
        firing_tokens=firing_tokens,
    )


def _graph(raw: dict[str, Any]) -> Graph:
    try:
        return Graph.model_validate(raw)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ToolError(f"That is not a graph ({reason}): give the 'graph' of neuron_to_graph.") from None


def _windows(context: Context, harvest: Harvest, input: Input) -> list[Window]:
    """Windows of the scoring half: those with the latent's highest peaks, then as many random ones."""
    best = [snippet.window for snippet in top(harvest, input.latent, input.windows, "score")]
    if len(best) < MIN_WINDOWS:
        raise ToolError(
            f"Latent {input.latent} fires in {len(best)} different windows of the scoring half, and a score needs "
            f"{MIN_WINDOWS}: harvest more text."
        )
    taken = {window.id for window in best}
    others = [window for window in pool(harvest, "score") if window.id not in taken]
    order = context.rng("windows", input.latent).permutation(len(others))[: len(best)]
    return best + [others[index] for index in order]


def _truth(harvest: Harvest, latent: int, windows: list[Window], threshold: float) -> list[np.ndarray]:
    """bool[s] for each window, BOS left out: where the stored activation reaches `threshold`."""
    firings = harvest.activations(latent, [window.id for window in windows])
    truth = []
    for window in windows:
        fired = np.zeros(len(window.tokens), bool)
        mine = firings.window == window.id
        fired[firings.position[mine]] = firings.activation[mine] >= threshold
        truth.append(fired[1:])
    return truth


def _predicted(graph: Graph, windows: list[Window]) -> list[np.ndarray]:
    """bool[s] for each window, BOS left out."""
    return [predict(graph, window.tokens[1:]) >= FIRES for window in windows]


def _shuffled(predicted: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The same predictions on tokens drawn at random from all windows."""
    return np.split(rng.permutation(np.concatenate(predicted)), np.cumsum([len(p) for p in predicted])[:-1])


def _counts(predicted: list[np.ndarray], truth: list[np.ndarray]) -> np.ndarray:
    """int64[windows, 3]: tokens predicted and true, predicted, true."""
    return np.array([[(p & t).sum(), p.sum(), t.sum()] for p, t in zip(predicted, truth, strict=True)])


def _scores(counts: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of the summed counts; 0 where nothing was predicted or nothing is true."""
    both, predicted, true = (int(total) for total in counts.sum(axis=0))
    return both / max(predicted, 1), both / max(true, 1), 2 * both / max(predicted + true, 1)


def _bootstrapped(
    predicted: list[np.ndarray], truth: list[np.ndarray], rng: np.random.Generator
) -> tuple[list[float], list[float], list[float]]:
    """(values, lows, highs) of precision, recall and F1; windows are drawn with replacement, for tokens of one window
    are not independent (percentile bootstrap, Efron 1979)."""
    counts = _counts(predicted, truth)
    draws = rng.integers(len(counts), size=(BOOTSTRAPS, len(counts)))
    spread = np.array([_scores(counts[rows]) for rows in draws])
    edges = np.quantile(spread, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    values = _scores(counts)
    return (
        list(values),
        [min(v, float(e)) for v, e in zip(values, edges[0], strict=True)],
        [max(v, float(e)) for v, e in zip(values, edges[1], strict=True)],
    )
