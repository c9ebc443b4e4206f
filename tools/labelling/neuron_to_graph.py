"""Explains a latent without an LLM: the shortest contexts that make it fire, merged into a trie."""

from collections.abc import Sequence
from itertools import islice

import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.examples import BEFORE, Snippet, need_firings, spread, top
from tools.workbench.graph import ANY, BACK, MASKS, Measure, as_json, merge, minimal_path, paths_of
from tools.workbench.negatives import random_places
from tools.workbench.registry import ToolError, ToolInput, tool
from tools.workbench.results import ExplanationOutput

MIN_WINDOWS = 5
TOLD = 8  # paths named in the text
MASK_CANDIDATES = 64


class Input(ToolInput):
    """Which latent, and how many of its windows to build the graph from."""

    latent: int
    windows: int = Field(20, ge=MIN_WINDOWS, le=100, description="half the strongest, half of every strength")


class Output(ExplanationOutput):
    """`text` names the main paths, "*" standing for any token; `graph` predicts (see score_prediction)."""

    paths: int
    pivots: int = Field(description="different tokens the latent was seen to fire on")


@tool(version=1)
def neuron_to_graph(input: Input, context: Context) -> Output:
    """Finds the minimal contexts that make a latent fire, by cutting and replacing tokens, and merges them to a graph.

    No LLM takes part. Good for latents tied to exact words; its recall on new text says whether this is one.
    Source: Foote et al. 2304.12918.
    """
    subject, harvest = context.subject, context.need_harvest()
    latent = subject.latent(input.latent)
    need_firings(harvest, input.latent)
    shown = top(harvest, input.latent, input.windows // 2, "explain", width=_width())
    seen = {snippet.window.id for snippet in shown}
    rng = context.rng("neuron_to_graph", input.latent)
    others = spread(harvest, input.latent, input.windows, "explain", rng, _width())
    shown += [s for s in others if s.window.id not in seen][: input.windows - len(shown)]
    if len(shown) < MIN_WINDOWS:
        raise ToolError(
            f"Latent {input.latent} fires in {len(shown)} different windows of the explaining half, and a graph needs "
            f"{MIN_WINDOWS}: harvest more text."
        )
    measure = last_activation(context, input.latent)
    places = islice(random_places(harvest, "explain", rng), MASK_CANDIDATES)
    common = [int(window.tokens[position]) for window, position in places]
    paths = []
    for snippet in shown:
        tokens = before_peak(snippet)
        masks = [token for token in dict.fromkeys(common) if token not in tokens][:MASKS]
        if path := minimal_path(tokens, measure, masks):
            paths.append(path)
    if not paths:
        raise ToolError(f"Latent {input.latent} fires on none of its snippets without the text further back: no graph.")
    graph = merge(paths)
    merged = paths_of(graph)
    told = "; ".join(_spell(context, tokens) for tokens, _, _ in merged[:TOLD])
    return Output(
        latent=str(latent),
        text=f"the last token of: {told}",
        explainer="none",
        evidence=tuple(snippet.example(subject) for snippet in shown),
        graph=as_json(graph),
        paths=len(merged),
        pivots=len(graph.roots),
    )


def before_peak(snippet: Snippet) -> list[int]:
    """Up to 24 tokens before the snippet's peak, and the peak's own."""
    peak = int(snippet.activations.argmax())
    return [int(token) for token in snippet.tokens[max(0, peak - BACK) : peak + 1]]


def last_activation(context: Context, latent: int) -> Measure:
    """Measures the latent on the last token of contexts, each run alone with BOS in front; 0 on sinks."""
    subject = context.subject

    def measure(contexts: Sequence[Sequence[int]]) -> list[float]:
        width = 1 + max(map(len, contexts))
        rows = [[subject.bos, *tokens, *[subject.bos] * (width - 1 - len(tokens))] for tokens in contexts]
        residual = subject.residual(torch.tensor(rows, device=subject.device))
        row, last = torch.arange(len(rows)), torch.tensor([len(tokens) for tokens in contexts])
        activations = subject.dictionary.encode(residual[row, last])[:, latent].float()
        activations[subject.sinks(residual)[row, last]] = 0
        measured: list[float] = activations.tolist()
        return measured

    return measure


def _width() -> int:
    """Tokens of a snippet that has 24 before its token."""
    return int(BACK / BEFORE)


def _spell(context: Context, tokens: tuple[int, ...]) -> str:
    strings = context.subject.token_strings([token for token in tokens if token != ANY])
    spelled = iter(strings)
    return repr("".join("*" if token == ANY else next(spelled) for token in tokens))
