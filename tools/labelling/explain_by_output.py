"""Explains a latent by what it writes: tokens it promotes directly, and those that steering with it makes likelier."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from prompts.errors import NoAnswer
from prompts.providers import Role
from tools.workbench.causal import RANDOMS, along_random, interval, outweighs, said, still, told
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.examples import need_firings
from tools.workbench.metrics import divergence
from tools.workbench.negatives import pool
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.results import ExplanationOutput, llm_failed, one_line
from tools.workbench.unembed import direct_effect

PROMPT = 24  # tokens of a prompt, BOS included
SMALL_REPLY = 64  # tokens


class Input(ToolInput):
    """Which latent, on how many prompts to steer and how hard."""

    latent: int
    prompts: int = Field(16, ge=4, le=64, description="starts of harvested documents, steered at their last token")
    strength: float = Field(1.0, gt=0, le=20, description="multiple of the latent's maximum over the harvest")
    tokens: int = Field(10, ge=2, le=30, description="tokens of each sign and source")


class Steered(ToolOutput):
    """What adding a direction of `norm` does to the next token: KL(plain || steered) in nats, the mean over prompts,
    and the tokens that gain and lose the most probability."""

    norm: float
    kl: float
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


class Controls(ToolOutput):
    """The same prompts without an edit, with random directions and with another, active latent, of equal norm.
    random_direction: the one that does most; randoms: the KL of each."""

    no_edit: Steered
    random_direction: Steered
    randoms: tuple[float, ...]
    random_latent: Steered
    random_latent_index: int


class Output(ExplanationOutput):
    """The explanation, the tokens it rests on, and the controls. `above_controls`: steering changed the next token more
    than every other direction did, by more than chance over prompts, without which the explanation says little."""

    direct_promoted: tuple[str, ...]
    direct_suppressed: tuple[str, ...]
    steered: Steered
    controls: Controls
    above_controls: bool
    call: str = Field(description="id of the LLM call")
    verdict: str


@tool(version=3, asks=(Role.EXPLAINER,))
async def explain_by_output(input: Input, context: Context) -> Output:
    """Asks an LLM what kind of text a latent promotes, from its direct logit effect and from steering with it.

    What a latent reads and what it writes often differ: this is the second. Believe it only where above_controls.
    """
    latent = context.subject.latent(input.latent)
    llm = context.need_llm()
    explainer = llm.endpoints[Role.EXPLAINER]
    found = await alone(measured, input, context)
    values = {
        "promoted": _interleaved(found.promoted, found.steered.promoted, input.tokens),
        "suppressed": _interleaved(found.suppressed, found.steered.suppressed, input.tokens),
    }
    try:
        answer = await llm.ask(
            Role.EXPLAINER, "explain_by_output", values, max_tokens=None if explainer.capable else SMALL_REPLY
        )
    except NoAnswer as failure:
        raise llm_failed(explainer.model, f"explanation: {failure}") from None
    return Output(
        latent=str(latent),
        text=one_line(answer, explainer.model),
        explainer=explainer.model,
        direct_promoted=found.promoted,
        direct_suppressed=found.suppressed,
        steered=found.steered,
        controls=found.controls,
        above_controls=found.clear,
        call=answer.call_id,
        verdict=found.verdict,
    )


class Measured(NamedTuple):
    """Tokens by the direct effect; the steered change, its controls, and whether it stands clear of them."""

    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]
    steered: Steered
    controls: Controls
    clear: bool
    verdict: str


def measured(input: Input, context: Context) -> Measured:
    """The direct effect's tokens, the steered change, and its controls, all on the same prompts."""
    subject, harvest = context.subject, context.need_harvest()
    need_firings(harvest, input.latent)
    stats = harvest.stats()
    rng = context.rng("explain_by_output", input.latent)
    whole = [window for window in pool(harvest, "explain") if len(window.tokens) >= PROMPT]
    if not whole:
        raise ToolError(f"No window of the harvest has {PROMPT} tokens: harvest longer documents.")
    chosen = [whole[i] for i in rng.permutation(len(whole))[: input.prompts]]
    tokens = torch.tensor([window.tokens[:PROMPT].tolist() for window in chosen], device=subject.device)
    strength = input.strength * float(stats.max[input.latent])
    edit = Edit(operation="add", latent=input.latent, strength=strength, positions=(-1,))
    push = prepare(subject, [edit], context.directions)
    active = [int(i) for i in stats.count.nonzero()[0] if i != input.latent] or [input.latent]
    other = int(rng.choice(active))
    rival = subject.dictionary.decoder[other].float()
    before = _next(context, tokens, [])

    def steer(changes: list[Change]) -> tuple[Steered, np.ndarray]:
        norm = changes[0].strength * changes[0].length
        return _change(context, before, _next(context, tokens, changes), norm, input.tokens)

    steered, kl = steer(push)
    randoms = [steer(along_random(context, push, rng, 1)) for _ in range(RANDOMS)]
    beside, rival_kl = steer([change.along(rival / rival.norm() * change.length) for change in push])
    strongest, _ = max(randoms, key=lambda each: each[0].kl)
    controls = Controls(
        no_edit=steer(still(push))[0],
        random_direction=strongest,
        randoms=tuple(each.kl for each, _ in randoms),
        random_latent=beside,
        random_latent_index=other,
    )
    clear = outweighs(kl, [rival_kl, *(each for _, each in randoms)])
    verdict = (
        f"steering shifts the next token by a KL of {told(steered.kl, *interval(kl), '')} nats; {RANDOMS} random "
        f"directions by at most {strongest.kl:.3g}, latent {other} by {beside.kl:.3g}: {said(clear, len(chosen))}"
    )
    effect = direct_effect(subject, subject.dictionary.decoder[input.latent])
    return Measured(
        promoted=_strings(context, effect.topk(input.tokens).indices),
        suppressed=_strings(context, (-effect).topk(input.tokens).indices),
        steered=steered,
        controls=controls,
        clear=clear,
        verdict=verdict,
    )


def _next(context: Context, tokens: Tensor, changes: list[Change]) -> Tensor:
    """[b, vocabulary] log-probabilities of the token after the last, with the changes made."""
    return context.subject.logits(tokens, changes, last=True)[:, -1].double().log_softmax(dim=-1)


def _change(context: Context, before: Tensor, after: Tensor, norm: float, n: int) -> tuple[Steered, np.ndarray]:
    """What changed, and the KL on each prompt, float64[b]."""
    gained = (after.exp() - before.exp()).mean(dim=0)
    up, down = gained.topk(n), (-gained).topk(n)
    kl = divergence(before.cpu(), after.cpu())
    steered = Steered(
        norm=norm,
        kl=float(kl.mean()),
        promoted=_strings(context, up.indices[up.values > 0]),
        suppressed=_strings(context, down.indices[down.values > 0]),
    )
    return steered, kl


def _strings(context: Context, ids: Tensor) -> tuple[str, ...]:
    return tuple(context.subject.token_strings(ids.tolist()))


def _interleaved(first: Sequence[str], second: Sequence[str], n: int) -> list[str]:
    """The first `n` different tokens of both lists, taken in turn."""
    turns = [token for pair in zip(first, second, strict=False) for token in pair]
    return list(dict.fromkeys([*turns, *first, *second]))[:n]
