"""What an item's place in a plane does: all there is where the plane holds the whole difference, and else nothing."""

import numpy as np
import pytest
import torch

from tests.tools.calling import call, refusal
from tools.workbench.context import Context
from tools.workbench.directions import Direction
from tools.workbench.items import item_cases, read_items

LAYER = 9
DAYS = ("Monday", "Wednesday", "Friday")
PROMPT = "If today is {}, then tomorrow is"
ANSWERS = ("Tuesday", "Thursday", "Saturday")
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def save(context: Context, vector: np.ndarray, layer: int = LAYER) -> str:
    unit = torch.tensor(vector / np.linalg.norm(vector), dtype=torch.float32)
    return context.directions.save(
        Direction(unit, context.subject.name, f"blocks.{layer}.hook_resid_pre", "find_manifold")
    )


def test_a_plane_that_holds_all_of_a_difference_does_all_and_one_that_holds_none_nothing(context: Context) -> None:
    site = "resid_pre", LAYER
    x = read_items(context, item_cases(context.subject, DAYS, (PROMPT,)), len(DAYS), [site])[site][0]
    axes = np.linalg.svd(x - x.mean(0))[2]
    input = {"items": DAYS, "prompts": [PROMPT], "answers": ANSWERS}
    every = call("edit_in_plane", context, plane=[save(context, axes[0]), save(context, axes[1])], **input)
    assert (every["layer"], every["cases"], every["chance"]) == (LAYER, 6, 1 / 3)
    assert every["whole"]["shift"] > 0.5
    assert every["plane"]["shift"] == pytest.approx(every["whole"]["shift"], abs=0.02)
    assert every["plane"]["share"] == pytest.approx(1, abs=0.02)
    assert every["plane"]["norm"] == pytest.approx(every["whole"]["norm"], rel=1e-3)
    assert every["controls"]["random_plane"]["norm"] == pytest.approx(every["plane"]["norm"], rel=1e-3)
    assert every["controls"]["no_edit"] == 0
    none = call("edit_in_plane", context, plane=[save(context, axes[2]), save(context, axes[3])], **input)
    assert none["plane"]["shift"] == pytest.approx(0, abs=0.01)
    assert none["controls"]["ablated"]["shift"] == pytest.approx(0, abs=0.01)
    assert not none["clear"]
    assert not none["steers"]
    shared = input | {"answers": [ANSWERS[0], ANSWERS[0], ANSWERS[2]]}
    alike = call("edit_in_plane", context, plane=[save(context, axes[0]), save(context, axes[1])], **shared)
    assert (alike["cases"], alike["chance"]) == (4, 1 / 2)


def test_what_is_no_plane_of_one_place_is_refused(context: Context) -> None:
    rng = np.random.default_rng(0)
    one, other, elsewhere = (save(context, rng.normal(size=576), layer) for layer in (LAYER, LAYER, 3))
    for plane, more, said in (
        ((one, elsewhere), {}, "a plane is of one place"),
        ((one, one), {}, "The two directions are the same"),
        ((one, other), {"answers": ANSWERS[:2]}, "There are 2 answers to 3 items"),
        ((one, other), {"answers": ["red"] * 3}, "All items have the same answer"),
    ):
        assert said in refusal("edit_in_plane", context, plane=plane, items=DAYS, prompts=[PROMPT], **more)


@pytest.mark.slow
def test_the_circle_of_days_is_read(context: Context) -> None:
    """Given another day's place on the circle, the model's answer moves to the day after that one, more than in random
    planes and more than where the place is taken away."""
    found = call("find_manifold", context, items=WEEK, layers=[LAYER])
    edited = call("edit_in_plane", context, plane=found["plane"], items=WEEK, prompts=[PROMPT])
    assert edited["right"] > 0.5
    assert edited["clear"]
    assert edited["steers"]
    assert 0.2 < edited["plane"]["share"] < 1
