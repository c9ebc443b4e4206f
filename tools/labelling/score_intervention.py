"""Intervention: can a judge who knows the explanation tell text steered with the latent from text that was not?"""

import torch
from pydantic import Field

from prompts.providers import Role
from tools.workbench.causal import along_random, peer
from tools.workbench.compute import alone
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.doses import at_cost
from tools.workbench.editing import Change, prepare
from tools.workbench.edits import Edit
from tools.workbench.examples import need_firings
from tools.workbench.generation import generate
from tools.workbench.judging import Item, JudgeInput, JudgeOutput, calls, how_many, judged
from tools.workbench.negatives import pool
from tools.workbench.registry import ToolError, ToolOutput, tool
from tools.workbench.stats import auroc

PROMPT = 12  # tokens of a prompt, BOS included


class Input(JudgeInput):
    """See `JudgeInput`: half of the texts are steered. cost: how hard, as the increase of cross-entropy on plain text,
    nats a token."""

    cost: float = Field(0.5, gt=0, le=4)
    tokens: int = Field(24, ge=8, le=100, description="written after each prompt")


class Controls(ToolOutput):
    """AUROC of steered text against each kind of other text: unedited, steered by a random direction as strong, and by
    another active latent as strong (None: no verdict could be read)."""

    no_edit: float | None
    random_direction: float | None
    random_active: float | None
    other: str


class Output(JudgeOutput):
    """AUROC of the judge's margins: continuations steered with the latent against those that were not."""

    strength: float
    controls: Controls
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds until the judge is asked."""
    now = pace(context.subject)
    n, _ = how_many(context, input)
    return now.search + now.writing(n, PROMPT, input.tokens) + 3 * now.writing(-(-n // 3), PROMPT, input.tokens)


@tool(version=2, estimate=estimate, asks=(Role.JUDGE,), calls=calls)
async def score_intervention(input: Input, context: Context) -> Output:
    """Scores an explanation of what a latent writes: a judge who knows only it tells steered from other continuations.

    The others are unedited, or steered as hard along a random direction or another active latent. An explanation of
    what a latent reads often fails here. Source: the intervention score of Paulo et al. 2410.13928.
    """
    latent = context.subject.latent(input.latent)
    items, strength, other = await alone(continued, input, context)
    found = await judged(context, input, "judge_intervention", items, str(latent))

    def against(kind: str) -> float | None:
        margins = [[i.margin for i in found.items if i.kind == k and i.margin is not None] for k in ("steered", kind)]
        return auroc(*margins) if all(margins) else None

    controls = Controls(
        no_edit=against("unedited"),
        random_direction=against("random direction"),
        random_active=against("another latent"),
        other=other,
    )
    clear = found.low > max(found.chance, found.floor or 0)
    verdict = (
        f"{found.judge} tells text steered with the latent from other text with an AUROC of {found.value:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}]"
        + ("" if found.floor is None else f", {found.floor:.2f} with another latent's explanation")
        + f": {'clear' if clear else 'not clear'} of chance"
    )
    return Output(**dict(found), strength=strength, controls=controls, verdict=verdict)


def continued(input: Input, context: Context) -> tuple[list[Item], float, str]:
    """The continuations as items, the strength of steering, and the name of the other latent."""
    subject, harvest = context.subject, context.need_harvest()
    need_firings(harvest, input.latent)
    context.need_llm()
    n, _ = how_many(context, input)
    rng = context.rng("score_intervention", input.latent)
    windows = [window for window in pool(harvest, "score") if len(window.tokens) >= PROMPT]
    if len(windows) < n:
        raise ToolError(f"The scoring half has {len(windows)} windows of {PROMPT} tokens and {n} are needed: harvest.")
    chosen = [windows[i].tokens[:PROMPT].tolist() for i in rng.permutation(len(windows))[:n]]
    tokens = torch.tensor(chosen, device=subject.device)
    edit = Edit(operation="add", latent=input.latent, strength=0.0)
    (change,) = prepare(subject, [edit], context.directions)
    change, _ = at_cost(subject, change, input.cost)
    steered = [change]
    others, name = peer(context, edit, steered, chosen, rng)
    seed = int(rng.integers(2**31))

    def items(kind: str, changes: list[Change], rows: slice) -> list[Item]:
        written = generate(subject, tokens[rows], input.tokens, changes, temperature=1.0, seed=seed)[:, PROMPT:]
        texts = [subject.tokenizer.decode([t for t in row if t != subject.eos]) for row in written.tolist()]
        return [Item(text=text, positive=kind == "steered", kind=kind) for text in texts]

    found = [
        *items("steered", steered, slice(None)),
        *items("unedited", [], slice(0, None, 3)),
        *items("random direction", along_random(context, steered, rng, 1), slice(1, None, 3)),
        *items("another latent", others, slice(2, None, 3)),
    ]
    return found, change.strength, name
