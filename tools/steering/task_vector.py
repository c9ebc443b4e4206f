"""Reads a task from examples of it, as one vector, and sees whether the model then does the task without examples."""

from typing import Annotated

import torch
from pydantic import Field

from tools.workbench.causal import interval, said, stands_clear, told
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.directions import Direction
from tools.workbench.metrics import Observed, Words, observe
from tools.workbench.peers import active_latent
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.tasks import Queries, put, queries, vectors

DEMONSTRATED = 0.5  # share of the pairs that examples are made of
CHOOSING = 0.3  # share of the others that the layer is chosen on


class Input(ToolInput):
    """Pairs of a task, such as a country and its capital; half become examples and the rest are asked without any."""

    pairs: Annotated[tuple[Annotated[Words, Field(min_length=2, max_length=2)], ...], Field(min_length=20)] = Field(
        max_length=200, description="a query and its answer, such as ['France', 'Paris']"
    )
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = Field(
        None, description="where to try the vector; None: every third layer"
    )
    shots: int = Field(8, ge=2, le=32, description="examples in a prompt")
    prompts: int = Field(12, ge=4, le=64, description="prompts with examples, whose mean is the vector")


class Outcome(ToolOutput):
    """Queries without examples: share whose likeliest next token begins the answer, the answer's mean log-probability
    (nats), and its change from no edit with a 95 % interval."""

    accuracy: float
    answer: float
    effect: float
    low: float | None
    high: float | None


class Tried(ToolOutput):
    """Accuracy and mean log-probability of the answer on the queries that the layer was chosen on."""

    layer: int
    accuracy: float
    answer: float


class Controls(ToolOutput):
    """The same queries without an edit, and with the vector of examples whose answers are exchanged among them, a
    random one and another active latent's direction of equal norm in its place."""

    no_edit: Outcome
    shuffled: Outcome
    random_direction: Outcome
    random_active: Outcome
    other: str


class Output(ToolOutput):
    """The saved vector's name, what putting it in place of the last token's activation does to queries that it was
    neither read nor chosen on, and what examples in the prompt would do (`few_shot`, accuracy)."""

    direction: str
    layer: int
    norm: float
    queries: int
    patched: Outcome
    few_shot: float
    tried: tuple[Tried, ...]
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: two sets of examples are read, and the queries once for each layer and each control."""
    now = pace(context.subject)
    each = now.reading(context.subject, [f"{query} {answer}" for query, answer in input.pairs]) / len(input.pairs)
    asked = len(input.pairs) * (1 - DEMONSTRATED)
    layers = len(input.layers) if input.layers else context.subject.n_layers / 3
    return each * (2 * input.prompts * input.shots + asked * (input.shots + 6 + CHOOSING * layers))


@tool(version=1, estimate=estimate)
def task_vector(input: Input, context: Context) -> Output:
    """Takes the vector that examples of a task leave at the last token, and puts it into prompts that have no examples.

    If the model then does the task, that vector carries it. It is tried at several layers and graded on queries that it
    was not chosen on. Source: Hendel et al. 2310.15916; as read by sparse autoencoders, Kharlapenko et al. 2504.13756.
    """
    subject = context.subject
    layers = input.layers or tuple(range(0, subject.n_layers, 3))
    if max(layers) >= subject.n_layers:
        raise ToolError(f"Layer {max(layers)} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    rng = context.rng("task_vector", input.model_dump_json())
    pairs = [input.pairs[i] for i in rng.permutation(len(input.pairs))]
    shown = round(DEMONSTRATED * len(pairs))
    chosen = shown + round(CHOOSING * (len(pairs) - shown))
    if shown <= input.shots:
        raise ToolError(f"Half of {len(pairs)} pairs are too few for {input.shots} examples and a query: give more.")
    examples = pairs[:shown]
    turn = 1 + int(rng.integers(shown - 1))
    exchanged = [(query, examples[(i + turn) % shown][1]) for i, (query, _) in enumerate(examples)]
    seed = int(rng.integers(2**31))
    true, idle = (vectors(context, each, input.shots, input.prompts, layers, seed) for each in (examples, exchanged))
    choosing, asked = (queries(context, part) for part in (pairs[shown:chosen], pairs[chosen:]))
    found = [put(context, choosing, layer, vector) for layer, vector in zip(layers, true, strict=True)]
    tried = tuple(
        Tried(layer=layer, accuracy=choosing.accuracy(seen), answer=float(seen.values.mean()))
        for layer, seen in zip(layers, found, strict=True)
    )
    best = max(range(len(layers)), key=lambda i: tried[i].answer)
    layer, vector = layers[best], true[best]
    norm = float(vector.norm())
    index = active_latent(context, asked.prompts, rng)
    random = torch.tensor(rng.normal(size=subject.d_model), dtype=torch.float32)
    others = [
        idle[best],
        *(norm * unit / unit.norm() for unit in (random, subject.dictionary.decoder[index].float().cpu())),
    ]
    before = observe(context, asked.prompts, asked.metric)
    after, *controlled = (put(context, asked, layer, each) for each in (vector, *others))
    plain, patched, shuffled, at_random, beside = (
        _outcome(asked, before, each) for each in (before, after, *controlled)
    )
    clear = patched.effect > 0 and stands_clear(
        after.values - before.values, [each.values - before.values for each in controlled]
    )
    prompted = queries(context, pairs[chosen:], [examples[: input.shots]] * len(asked.prompts))
    few_shot = prompted.accuracy(observe(context, prompted.prompts, prompted.metric))
    verdict = (
        f"at layer {layer} the vector makes the model do the task on {patched.accuracy:.0%} of {len(asked.prompts)} "
        f"queries without examples ({plain.accuracy:.0%} unedited, {few_shot:.0%} with examples); the answer's "
        f"log-probability moves by {told(patched.effect, patched.low, patched.high)} nats, by {shuffled.effect:+.3g} "
        f"with exchanged answers ({shuffled.accuracy:.0%}), by {at_random.effect:+.3g} with a random vector, by "
        f"{beside.effect:+.3g} with latent {index}'s: "
        f"{said(clear, len(asked.prompts))}"
    )
    hook = f"blocks.{layer}.hook_resid_pre"
    return Output(
        direction=context.directions.save(Direction(vector / norm, subject.name, hook, "task_vector", norm)),
        layer=layer,
        norm=norm,
        queries=len(asked.prompts),
        patched=patched,
        few_shot=few_shot,
        tried=tried,
        controls=Controls(
            no_edit=plain,
            shuffled=shuffled,
            random_direction=at_random,
            random_active=beside,
            other=f"latent {index}",
        ),
        clear=clear,
        verdict=verdict,
    )


def _outcome(asked: Queries, before: Observed, after: Observed) -> Outcome:
    change = after.values - before.values
    low, high = interval(change)
    return Outcome(
        accuracy=asked.accuracy(after),
        answer=float(after.values.mean()),
        effect=float(change.mean()),
        low=low,
        high=high,
    )
