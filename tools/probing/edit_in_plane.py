"""Does the model read a plane of activations? Moves an item to where another lies in it and sees what is answered."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tools.workbench.activations import hook_of
from tools.workbench.causal import RANDOMS, interval, said, stands_clear
from tools.workbench.context import Context
from tools.workbench.costs import pace
from tools.workbench.items import item_cases, read_items
from tools.workbench.metrics import Metric, Observed, observe, single_tokens
from tools.workbench.pictures import Bar, Bars, Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool
from tools.workbench.sites import At, named
from tools.workbench.subject import Splice

PARTNERS = 6  # other items that each is moved to
Word = Annotated[str, Field(min_length=1, max_length=60)]


class Input(ToolInput):
    """The two saved directions that span the plane (`find_manifold`), its items in their order, and prompts with {} for
    an item, after which its answer is to come: the item `steps` further around, or its own of `answers`. The edit is at
    the item, in the residual stream where the directions were found."""

    plane: tuple[str, str]
    items: tuple[Word, ...] = Field(min_length=3, max_length=60)
    prompts: tuple[str, ...] = Field(min_length=1, max_length=8)
    steps: int = 1
    answers: tuple[Word, ...] = ()


class Moved(ToolOutput):
    """shift: by how much the logit of the other item's answer gains on that of the item's own, mean over items with its
    95 % interval over them; share: of the shift when the whole activation is exchanged, None where that is not above 0
    for sure. leads: how often the other's answer then has the highest logit of all items' answers. norm: mean length of
    the change."""

    shift: float
    low: float
    high: float
    share: float | None
    leads: float
    norm: float


class Controls(ToolOutput):
    """no_edit: a change of length zero. random_plane: of nine random planes, in which the change has the same length,
    the one that does most; randoms: the shift of each. ablated: the item moved to the items' mean in the plane, which
    takes its place away and gives it no other."""

    no_edit: float
    random_plane: Moved
    randoms: tuple[float, ...]
    ablated: Moved


class Output(ToolOutput):
    """right: how often, unedited, an item's own answer leads among the items' answers, chance one in as many as there
    are. plane: the edit; whole: the whole activation exchanged. clear: the plane's shift is above that of each random
    plane, steers: and of ablation, by more than chance over items."""

    layer: int
    cases: int
    right: float
    chance: float
    plane: Moved
    whole: Moved
    controls: Controls
    clear: bool
    steers: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: every item with each partner under each condition."""
    texts = [prompt.replace("{}", item) for prompt in input.prompts for item in input.items]
    return pace(context.subject).reading(context.subject, texts) * (RANDOMS + 4) * min(PARTNERS, len(input.items) - 1)


@tool(version=1, estimate=estimate)
def edit_in_plane(input: Input, context: Context) -> Output:
    """Is a circle of days or months used? Gives an item the in-plane coordinates of another and reads the answer.

    Beside it: the whole activation exchanged (all there is to shift at that place), the same length in random planes,
    and the plane ablated. Later layers may have read the item elsewhere already: try several layers. Source: Engels et
    al. 2405.14860, section 5.
    """
    subject = context.subject
    site, axes = _plane(context, input.plane)
    names = input.answers or tuple(np.roll(input.items, -input.steps).tolist())
    if len(names) != len(input.items):
        raise ToolError(f"There are {len(names)} answers to {len(input.items)} items: give one for each.")
    tokens = np.array(single_tokens(subject, [f" {name}" for name in names]))
    rng = context.rng("edit_in_plane", input.model_dump_json())
    n, chance = len(input.items), 1 / len(set(tokens.tolist()))
    moves = [  # prompt, item, whose place it is given
        (p, a, int(b))
        for p in range(len(input.prompts))
        for a in range(n)
        for b in rng.permutation([b for b in range(n) if tokens[b] != tokens[a]])[:PARTNERS]
    ]
    if len({a for _, a, _ in moves}) < n:
        raise ToolError("All items have the same answer: nothing can be told apart by it.")
    p, a, b = np.array(moves).T
    cases = item_cases(subject, input.items, input.prompts)
    own = [cases[at] for at in p * n + a]
    x = read_items(context, cases, n, [site])[site]
    metric = Metric(
        kind="answer_difference", answers=tuple(f" {names[i]}" for i in b), down=tuple(f" {names[i]}" for i in a)
    )
    hook = hook_of(subject, site)
    prompts = [case.tokens for case in own]

    def seen(change: np.ndarray) -> Observed:
        """The metric with change float64[cases, d_model] added at the items."""
        added = torch.tensor(change, dtype=torch.float32)

        def splice(indices: list[int]) -> Splice:
            def put(value: Tensor) -> Tensor:
                value = value.clone()
                for row, index in enumerate(indices):
                    value[row, own[index].places[0]] += added[index].to(value)
                return value

            return hook, put

        return observe(context, prompts, metric, splice=splice)

    whole = x[p, b] - x[p, a]
    inside = whole @ axes.T @ axes
    length = np.linalg.norm(inside, axis=1, keepdims=True)
    before, again = observe(context, prompts, metric), seen(np.zeros_like(whole))
    shifts = {
        "whole": (whole, seen(whole)),
        "plane": (inside, seen(inside)),
        "ablated": (taken := (x[p].mean(1) - x[p, a]) @ axes.T @ axes, seen(taken)),
    }
    drawn = []
    for _ in range(RANDOMS):
        other = np.linalg.qr(rng.normal(size=(subject.d_model, 2)))[0].T
        change = whole @ other.T @ other
        change *= length / np.maximum(np.linalg.norm(change, axis=1, keepdims=True), 1e-12)
        drawn.append((change, seen(change)))

    def by_item(found: Observed) -> np.ndarray:
        """float64[items]: the shift, mean over each item's cases."""
        shift = found.values - before.values
        return np.array([shift[a == each].mean() for each in range(n)])

    reference = by_item(shifts["whole"][1])
    least, _ = interval(reference)

    def moved(change: np.ndarray, found: Observed) -> Moved:
        value = by_item(found)
        low, high = interval(value)
        assert low is not None
        assert high is not None
        leads = tokens[found.log_probabilities[:, tokens].argmax(1).numpy()] == tokens[b]
        return Moved(
            shift=float(value.mean()),
            low=low,
            high=high,
            share=float(value.mean() / reference.mean()) if least is not None and least > 0 else None,
            leads=float(leads.mean()),
            norm=float(np.linalg.norm(change, axis=1).mean()),
        )

    own_shift = by_item(shifts["plane"][1])
    clear = stands_clear(own_shift, [by_item(found) for _, found in drawn])
    steers = clear and stands_clear(own_shift, [by_item(shifts["ablated"][1])])
    edited, exchanged, ablated = (moved(*shifts[name]) for name in ("plane", "whole", "ablated"))
    random = max((moved(*each) for each in drawn), key=lambda each: abs(each.shift))
    right = tokens[before.log_probabilities[:, tokens].argmax(1).numpy()] == tokens[a]
    verdict = (
        f"unedited, the right answer leads in {right.mean():.0%} (chance {chance:.0%}); given another's place in the "
        f"plane entering layer {site[1]}, its answer gains {_told(edited)} and leads in {edited.leads:.0%}; in random "
        f"planes at most {random.shift:+.2f}, with the plane ablated {_told(ablated)}, with the whole activation "
        f"exchanged {_told(exchanged)} and {exchanged.leads:.0%}: {said(clear, n)}, "
        f"{'and more than ablation does' if steers else 'and not shown to do more than ablation'}"
    )
    bars = Bars(
        tuple(
            Bar(label, each.shift, each.low, each.high, beside)
            for label, each, beside in (
                ("another's place in the plane", edited, False),
                ("the whole activation", exchanged, False),
                ("the plane ablated", ablated, True),
                ("a random plane", random, True),
            )
        )
    )
    return Output(
        layer=site[1],
        cases=len(moves),
        right=float(right.mean()),
        chance=chance,
        plane=edited,
        whole=exchanged,
        controls=Controls(
            no_edit=float(by_item(again).mean()),
            random_plane=random,
            randoms=tuple(float(by_item(found).mean()) for _, found in drawn),
            ablated=ablated,
        ),
        clear=clear,
        steers=steers,
        verdict=verdict,
        pictures=draw(
            context,
            "edit_in_plane",
            input,
            shifts=Picture("What an item's place does", bars, "logits that the other's answer gains", verdict),
        ),
    )


def _plane(context: Context, names: tuple[str, str]) -> tuple[At, np.ndarray]:
    """The place, and float64[2, d_model], orthonormal."""
    found = [context.directions.of_stream(name, context.subject.name) for name in names]
    if found[0].hook != found[1].hook:
        raise ToolError(f"{names[0]} is of {found[0].hook} and {names[1]} of {found[1].hook}: a plane is of one place.")
    site = named(context.subject, found[0].hook)
    if site[0] != "resid_pre":
        raise ToolError(f"{names[0]} is of {found[0].hook}: give directions of the stream entering a layer.")
    basis, triangle = np.linalg.qr(np.stack([each.vector.double().numpy() for each in found], axis=1))
    if abs(triangle[1, 1]) < 1e-3:
        raise ToolError("The two directions are the same: a plane takes two.")
    return site, basis.T


def _told(each: Moved) -> str:
    return f"{each.shift:+.2f} [{each.low:+.2f}, {each.high:+.2f}] logits"
