"""Takes a direction out of the weights, in a copy of the model, and measures what the copy does."""

from copy import copy
from dataclasses import replace

import numpy as np
from pydantic import Field
from torch import Tensor

from store.ids import content_hash
from tools.workbench.causal import RANDOMS, Controls, Effect, along, along_random, effect_of, said, stands_clear, told
from tools.workbench.context import Context
from tools.workbench.costs import EVERYWHERE, pace
from tools.workbench.editing import prepare
from tools.workbench.edits import Edit
from tools.workbench.metrics import Metric, Texts, alike, encode, observe, observe_each
from tools.workbench.orthogonal import keep, orthogonalised, tied
from tools.workbench.peers import active_latent
from tools.workbench.registry import ToolInput, ToolOutput, tool
from tools.workbench.subject import Subject

SAME = 1e-3  # logits
READINGS = 8.5  # of the prompts, controls apart
COPIES, SAVING = 2e-8, 4e-8  # seconds a parameter
MODELS = "models"  # the workspace's folder of copies


class Input(ToolInput):
    """A saved direction, and the prompts and metric to measure the copy by."""

    direction: str = Field(min_length=4, description="name of a saved direction")
    prompts: Texts
    metric: Metric = Metric()
    chat: bool = False
    save: bool = Field(False, description="keep the copy in the workspace, as a folder that --model opens")


class Output(ToolOutput):
    """What the copy does to the metric, beside ablation's changes written along random and another latent's directions.

    from_ablation: largest difference of any logit from the original with the direction ablated wherever it is read;
    moved: the same from the original as it is. tied: the embedding was the unembedding's matrix and was untied.
    saved: the copy's folder within the workspace.
    """

    metric: str
    prompts: int
    effect: Effect
    from_ablation: float
    moved: float
    tied: bool
    saved: str | None
    controls: Controls
    clear: bool
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds: a copy of the model, readings of the prompts, and one copy written."""
    parameters: int = sum(weight.numel() for weight in context.subject.model.original_model.parameters())
    reading = pace(context.subject).reading(context.subject, input.prompts, input.chat)
    readings = READINGS + EVERYWHERE * (RANDOMS + 1)
    return (COPIES + SAVING * input.save) * parameters + readings * reading


@tool(version=3, estimate=estimate)
def orthogonalise_weights(input: Input, context: Context) -> Output:
    """Makes a copy of the model that cannot write along a direction, and measures it: ablation made permanent.

    Embeddings that are tied to the unembedding are untied first. The copy must equal directional ablation; how far it
    is from that is in the answer. The subject itself stays as it is; the copy can be saved.
    Source: Arditi et al. 2406.11717.
    """
    subject = context.subject
    prompts = encode(subject, input.prompts, input.chat)
    edit = Edit(operation="ablate", direction=input.direction, layers="all", include_sinks=True)
    changes = prepare(subject, [edit], context.directions)
    r = changes[0].read
    assert r is not None
    rng = context.rng("orthogonalise_weights", input.model_dump_json())
    index = active_latent(context, prompts, rng)
    decoder = subject.dictionary.decoder[index].float()
    before, nothing = (observe(context, prompts, input.metric) for _ in range(2))
    copied = without(subject, r)
    from_ablation, moved = 0.0, 0.0
    for _, tokens in alike(prompts):
        logits = copied.logits(tokens)
        from_ablation = max(from_ablation, float((logits - subject.logits(tokens, changes)).abs().max()))
        moved = max(moved, float((logits - subject.logits(tokens)).abs().max()))
    after = observe(replace(context, subject=copied), prompts, input.metric)
    saved = _saved(context, copied, input.direction) if input.save else None
    del copied
    ablated = observe(context, prompts, input.metric, changes)
    drawn = observe_each(context, prompts, input.metric, along_random(context, changes, rng))
    other = observe(context, prompts, input.metric, along(changes, decoder / decoder.norm()))
    randoms = tuple(float((each.values - before.values).mean()) for each in drawn)
    at_random = drawn[int(np.abs(randoms).argmax())]
    clear = stands_clear(after.values - before.values, [each.values - before.values for each in (*drawn, other)])
    effect = effect_of(before, replace(after, norm=ablated.norm))
    controls = Controls(
        no_edit=effect_of(before, nothing),
        random_direction=effect_of(before, at_random),
        randoms=randoms,
        random_active=effect_of(before, other),
        other=f"latent {index}",
    )
    same = (
        "as directional ablation does" if from_ablation < SAME else f"not as ablation: {from_ablation:.2g} logits off"
    )
    verdict = (
        f"the copy changes {input.metric.words} by {told(effect.effect, effect.low, effect.high)}, {same}, "
        f"which moves a token by {effect.norm:.3g} at each of {len(changes)} places; {RANDOMS} random directions, "
        f"moving it by {at_random.norm:.3g}, by at most {controls.random_direction.effect:+.3g}, {controls.other}'s by "
        f"{controls.random_active.effect:+.3g}: {said(clear, len(prompts))}"
    )
    if saved is not None:
        verdict += f". The copy is in the workspace's folder {saved}"
    return Output(
        metric=input.metric.words,
        prompts=len(prompts),
        effect=effect,
        from_ablation=from_ablation,
        moved=moved,
        tied=tied(subject.model),
        saved=saved,
        controls=controls,
        clear=clear,
        verdict=verdict,
    )


def _saved(context: Context, copied: Subject, direction: str) -> str:
    """Keeps the copy's model, unless it was kept before: the name is the original's, and a hash that tells both."""
    named = content_hash([context.subject.fingerprint, context.directions.load(direction).name])
    folder = f"{MODELS}/{copied.name}-without-{named[:12]}"
    keep(copied.model, context.ledger.store.path.parent / folder)
    return folder


def without(subject: Subject, direction: Tensor) -> Subject:
    """The subject with a copy of its model that cannot write along `direction`."""
    other = copy(subject)
    other.model = orthogonalised(subject.model, direction)
    return other
