"""Latents that tell, before a reply is written, whether it will be wrong."""

import numpy as np
from pydantic import Field

from tools.probing.facts import AboutFacts
from tools.probing.knowledge import ask_once
from tools.probing.reply_rows import Rows, reply_rows
from tools.probing.risk import within
from tools.probing.welch import centred, exchanged, welch
from tools.workbench.context import Context
from tools.workbench.costs import CHAT, pace
from tools.workbench.estimators import logistic
from tools.workbench.pictures import Bar, Bars, Picture, controls_said, draw
from tools.workbench.registry import ToolOutput, tool
from tools.workbench.splits import groups_of, held_out
from tools.workbench.stats import auroc, auroc_interval

PERMUTATIONS = 200
SHUFFLES = 5  # of the probe's labels
HELD_OUT = 0.5  # of the entities
CERTAIN = 0.99  # of permutations that a latent's t lies above
LICENCE = "A latent that is higher before wrong replies need not make them wrong: steer it to see."


class Input(AboutFacts):
    """What is asked, of which entities, and at which token of the prompt latents are read."""

    tokens: int = Field(24, ge=1, le=64, description="of a reply")
    position: int = Field(-1, ge=-8, le=-1, description="-1: the last token of the chat's prompt, -2 the one before")
    n: int = Field(5, ge=1, le=50, description="latents told of each side")


class Latent(ToolOutput):
    """A latent chosen on half of the entities by t (Welch; positive where it is higher on its own side, each relation's
    mean taken off). p: the share of permutations in which any latent's t is as high. On the other half: the AUROC of
    its side with the 95 % interval, that over pairs of one relation (within), and how often it fires on either."""

    latent: int
    t: float
    p: float
    auroc: float
    low: float
    high: float
    within: float
    fires_right: float
    fires_wrong: float


class Baseline(ToolOutput):
    """AUROC of wrong against right on the same half, over all pairs and over those of one relation."""

    label: str
    auroc: float
    within: float


class Controls(ToolOutput):
    """permuted_wrong, permuted_right: the t that 99 % of permutations do not reach with any latent. shuffled: the
    AUROC of wrong replies by the latent that each permutation chooses, mean; shuffled_high: which 95 % do not reach.
    shuffled_probe: that of a probe fitted to such labels, mean of five."""

    permuted_wrong: float
    permuted_right: float
    shuffled: float
    shuffled_high: float
    shuffled_probe: float


class Output(ToolOutput):
    """wrong, right: the latents higher before wrong, or right, replies, the best first. token: where they are read.
    refused: replies that were left out; sinks: those whose token is an attention sink. baselines: a probe of the whole
    residual stream there, and what needs no look inside."""

    replies: int
    wrong_replies: int
    refused: int
    sinks: int
    token: str
    wrong: tuple[Latent, ...]
    right: tuple[Latent, ...]
    baselines: tuple[Baseline, ...]
    controls: Controls
    clear: bool
    licence: str
    pictures: tuple[str, ...]
    verdict: str


def estimate(input: Input, context: Context) -> float:
    """Seconds, were no reply kept from earlier runs."""
    facts = sum(len(r.facts) for r in input.chosen(context))
    now = pace(context.subject)
    return now.writing(facts, 14 + CHAT, input.tokens) + now.token * (14 + CHAT) * facts + 10


@tool(version=1, estimate=estimate)
def uncertainty_latents(input: Input, context: Context) -> Output:
    """Finds latents that are higher at the end of a question when the reply to it turns out wrong, or right.

    One question of each entity, as a user asks it, its reply judged by the answers; Welch's t between wrong and right
    replies, against labels exchanged within each relation. The best are tried on other entities, beside a probe of the
    whole residual stream there and the model's own confidence. Source: Ferrando et al. 2411.14257, section 7.
    """
    asked = ask_once(context, input.chosen(context), input.tokens)
    found = [each for each in asked if not each.refused[0]]
    rows = reply_rows(context, found, input.position, input.tokens)
    rng = context.rng("uncertainty_latents", input.model_dump_json())
    test_rows = held_out(rows.wrong, groups_of(rows.entity.tolist()), rng, HELD_OUT)
    train, test = rows.kept(~test_rows), rows.kept(test_rows)
    x = centred(train.latents, train.relation)
    t = welch(x, train.wrong[None])[0]
    permuted = welch(x, exchanged(train.wrong, train.relation, rng, PERMUTATIONS))
    by_chance = permuted.max(1), (-permuted).max(1)
    lucky = [auroc(own[test.wrong], own[~test.wrong]) for own in test.latents.T[permuted.argmax(1)]]
    probes = [_probe(train, labels, test) for labels in exchanged(train.wrong, train.relation, rng, SHUFFLES)]
    controls = Controls(
        permuted_wrong=float(np.quantile(by_chance[0], CERTAIN)),
        permuted_right=float(np.quantile(by_chance[1], CERTAIN)),
        shuffled=float(np.mean(lucky)),
        shuffled_high=float(np.quantile(lucky, 0.95)),
        shuffled_probe=float(np.mean([auroc(own[test.wrong], own[~test.wrong]) for own in probes])),
    )
    wrong, right = (
        tuple(_latent(int(i), float(own[i]), chance, test, side, rng) for i in own.argsort()[::-1][: input.n])
        for own, chance, side in ((t, by_chance[0], test.wrong), (-t, by_chance[1], ~test.wrong))
    )
    baselines = _baselines(train, test)
    bars = controls.permuted_wrong, controls.permuted_right
    sides = [(name, own[0], bar) for name, own, bar in zip(("wrong", "right"), (wrong, right), bars, strict=True)]
    sinks = len(found) - len(rows.wrong)
    verdict = "; ".join(_told(name, best, bar) for name, best, bar in sides)
    verdict += "; on those replies " + ", ".join(
        f"{each.label} {each.auroc:.2f} (within {each.within:.2f})" for each in baselines
    )
    verdict += f", latents chosen by exchanged labels {controls.shuffled:.2f}"
    verdict += f"; {sinks} replies left out as sinks. {LICENCE}" if sinks else f". {LICENCE}"
    return Output(
        replies=len(rows.wrong),
        wrong_replies=int(rows.wrong.sum()),
        refused=len(asked) - len(found),
        sinks=sinks,
        token=rows.token,
        wrong=wrong,
        right=right,
        baselines=baselines,
        controls=controls,
        clear=any(_stands(best, bar) for _, best, bar in sides),
        licence=LICENCE,
        pictures=draw(context, "uncertainty_latents", input, auroc=_beside(wrong, right, baselines, controls)),
        verdict=verdict,
    )


def _latent(
    index: int, t: float, by_chance: np.ndarray, test: Rows, side: np.ndarray, rng: np.random.Generator
) -> Latent:
    own = test.latents[:, index]
    value = auroc_interval(own[side], own[~side], rng)
    return Latent(
        latent=index,
        t=t,
        p=float((1 + (by_chance >= t).sum()) / (1 + len(by_chance))),
        auroc=value.value,
        low=value.low,
        high=value.high,
        within=within(own, side, test.relation),
        fires_right=float((own[~test.wrong] > 0).mean()),
        fires_wrong=float((own[test.wrong] > 0).mean()),
    )


def _probe(train: Rows, labels: np.ndarray, test: Rows) -> np.ndarray:
    """float64[n]: how wrong a logistic probe of the residual stream, fitted to these labels, calls the other half."""
    scores: np.ndarray = test.residual @ logistic(train.residual.astype(float), labels).vector
    return scores


def _baselines(train: Rows, test: Rows) -> tuple[Baseline, ...]:
    share = {each: train.wrong[train.relation == each].mean() for each in np.unique(train.relation)}
    found = {
        "a probe of the residual stream": _probe(train, train.wrong, test),
        "the first token's log-probability": -test.confidence,
        "the relation": np.array([share.get(each, train.wrong.mean()) for each in test.relation]),
    }
    return tuple(
        Baseline(
            label=label,
            auroc=auroc(scores[test.wrong], scores[~test.wrong]),
            within=within(scores, test.wrong, test.relation),
        )
        for label, scores in found.items()
    )


def _stands(best: Latent, bar: float) -> bool:
    """Above what permuted labels give, and on entities that it was not chosen on, too."""
    return best.t > bar and best.low > 0.5 and best.within > 0.5


def _told(name: str, best: Latent, bar: float) -> str:
    if best.t <= bar:
        return (
            f"no latent is higher before {name} replies by more than with permuted labels ({best.latent}: t "
            f"{best.t:.1f}, p {best.p:.2g}; permuted {bar:.1f})"
        )
    return (
        f"latent {best.latent} is higher before {name} replies, t {best.t:.1f} (p {best.p:.2g}; permuted labels "
        f"{bar:.1f}), AUROC on other entities {best.auroc:.2f} [{best.low:.2f}, {best.high:.2f}], within a relation "
        f"{best.within:.2f}"
    )


def _beside(
    wrong: tuple[Latent, ...], right: tuple[Latent, ...], baselines: tuple[Baseline, ...], controls: Controls
) -> Picture:
    sides = (("wrong", wrong), ("right", right))
    bars = [
        *(Bar(f"latent {o.latent}, before {side}", o.auroc, o.low, o.high) for side, own in sides for o in own),
        *(Bar(each.label, each.auroc, beside=True) for each in baselines),
        Bar("latents chosen by exchanged labels", controls.shuffled, beside=True),
        Bar("a probe of exchanged labels", controls.shuffled_probe, beside=True),
    ]
    return Picture(
        "What tells wrong replies from right ones, on entities that nothing was chosen on",
        Bars(tuple(bars)),
        "AUROC, of its own side for a latent",
        controls_said(controls),
    )
