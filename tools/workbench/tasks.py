"""Tasks as pairs of a query and its answer: prompts with and without examples, and what the examples leave behind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.metrics import Metric, Observed, alike, encode, observe
from tools.workbench.subject import Splice

ARROW = " →"

Pairs = Sequence[Sequence[str]]  # (query, answer)


@dataclass(frozen=True)
class Queries:
    """Prompts that end where an answer should begin, and that answer's first token."""

    prompts: list[list[int]]
    metric: Metric
    answers: np.ndarray

    def accuracy(self, seen: Observed) -> float:
        """Share of the prompts whose likeliest next token begins the answer."""
        return float((seen.log_probabilities.argmax(-1).numpy() == self.answers).mean())


def queries(context: Context, pairs: Pairs, examples: Sequence[Pairs] | None = None) -> Queries:
    """Each pair's query followed by an arrow, after its `examples` if they are given."""
    before = ["" if examples is None else "".join(f"{q}{ARROW} {a}\n" for q, a in each) for each in examples or pairs]
    prompts = encode(context.subject, [f"{text}{query}{ARROW}" for text, (query, _) in zip(before, pairs, strict=True)])
    answers = tuple(f" {answer}" for _, answer in pairs)
    first = np.array([ids[0] for ids in context.subject.tokenize(answers)])
    return Queries(prompts, Metric(kind="answer", answers=answers), first)


def vectors(context: Context, pairs: Pairs, shots: int, n: int, layers: Sequence[int], seed: int) -> list[Tensor]:
    """float32[d_model] for each layer: the last token's activation entering it, the mean over n prompts of `shots`
    examples and a query, drawn from the pairs by the seed."""
    rng = np.random.default_rng(seed)
    drawn = [[pairs[i] for i in rng.permutation(len(pairs))[: shots + 1]] for _ in range(n)]
    asked = queries(context, [each[-1] for each in drawn], [each[:-1] for each in drawn])
    total = torch.zeros(len(layers), context.subject.d_model)
    for _, tokens in alike(asked.prompts):
        total += context.subject.residuals(tokens)[list(layers), :, -1].sum(1).cpu()
    return list(total / n)


def put(context: Context, asked: Queries, layer: int, vector: Tensor) -> Observed:
    """The answers' log-probabilities when `vector` stands in place of the last token's activation entering `layer`."""

    def splice(indices: list[int]) -> Splice:
        def replaced(value: Tensor) -> Tensor:
            value = value.clone()
            value[:, -1] = vector.to(value)
            return value

        return f"blocks.{layer}.hook_resid_pre", replaced

    return observe(context, asked.prompts, asked.metric, splice=splice)
