"""Probes on planted truth: what is there is found, what is not there is not, and no entity is on both sides."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from tools.workbench.attributes import by_spelling, classed, standing
from tools.workbench.charts import histograms
from tools.workbench.decoding import Graded, Split, Surface, gain, graded, learning_curve, surface_baselines
from tools.workbench.estimators import ESTIMATORS, Estimator, Fitted, fit_probe, linear
from tools.workbench.labelled import check_counts, leak
from tools.workbench.manifolds import chance, chance_where_best, neighbours, order_on, placed, plane, radius_variation
from tools.workbench.probe_reports import is_clear
from tools.workbench.registry import ToolError
from tools.workbench.sparse_probes import chosen_units, rotated, scored
from tools.workbench.splits import assert_disjoint, folds, groups_of, held_out, shuffled
from tools.workbench.stats import Interval

conditional_effect = import_module("tools.probing.conditional_effect")
N, D, PLANTED = 240, 24, 5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def planted(rng: np.random.Generator, strength: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [N, D] with the label in one coordinate, and two texts an entity."""
    groups = np.arange(N) // 2
    positive = rng.permutation(N // 2)[groups] % 2 == 0
    x = rng.normal(size=(N, D))
    x[:, PLANTED] += strength * positive
    return x, positive, groups


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_finds_a_planted_feature(estimator: Estimator, rng: np.random.Generator) -> None:
    x, positive, groups = planted(rng)
    split = Split.of(positive, groups, rng)
    found = graded(estimator, x, split, rng)
    assert found.own.value > 0.9
    assert found.own.low > found.shuffled
    assert abs(found.shuffled - 0.5) < 0.1
    assert found.random < found.own.value


@pytest.mark.parametrize("estimator", ["mean_difference", "logistic", "pca"])
def test_a_linear_probe_is_its_direction(estimator: Estimator, rng: np.random.Generator) -> None:
    x, positive, groups = planted(rng)
    fitted = fit_probe(estimator, x, positive, groups, 0)
    probe = linear(fitted, x, positive)
    assert np.linalg.norm(probe.vector) == pytest.approx(1)
    assert np.argmax(np.abs(probe.vector)) == PLANTED
    projections = x @ probe.vector
    assert probe.norm == pytest.approx(projections[positive].mean() - projections[~positive].mean())
    if estimator == "mean_difference":
        assert np.corrcoef(projections, fitted.scores(x))[0, 1] == pytest.approx(1)
        assert probe.slope == 0
    else:
        assert probe.slope * (projections - probe.centre) == pytest.approx(fitted.scores(x))


def test_a_label_that_is_not_there_is_not_found(rng: np.random.Generator) -> None:
    x, positive, groups = planted(rng, strength=0.0)
    found = graded("logistic", x, Split.of(positive, groups, rng), rng)
    assert found.own.low < 0.5 < found.own.high


def test_scores_that_are_all_tied_tell_nothing(rng: np.random.Generator) -> None:
    _, positive, groups = planted(rng)
    split = Split.of(positive, groups, rng)
    found = graded("logistic", np.zeros((N, D)), split, rng)
    assert found.own.value == found.random == 0.5
    assert split.auroc(np.zeros(int(split.test.sum()))) == 0.5


def test_no_group_is_on_both_sides(rng: np.random.Generator) -> None:
    _, positive, groups = planted(rng)
    mixed = rng.random(N) < 0.5
    for labels in (positive, mixed):
        test = held_out(labels, groups, rng)
        assert not set(groups[test]) & set(groups[~test])
        assert 0.2 < test.mean() < 0.4
        for fit, grade in folds(labels, groups, 0):
            assert not set(groups[fit]) & set(groups[grade])
    with pytest.raises(AssertionError, match="both sides"):
        assert_disjoint(groups, np.arange(N) % 2 == 0)
    with pytest.raises(ToolError, match="too few to hold whole ones"):
        held_out(positive, np.zeros(N, int), rng)


def test_texts_of_one_entity_make_no_interval_narrower(rng: np.random.Generator) -> None:
    positive = np.arange(40) % 2 == 0
    scores = rng.normal(size=40) + positive
    every = np.ones(40, bool)
    one = Split(positive, np.arange(40), every).interval(scores, np.random.default_rng(1))
    many, groups = np.repeat(positive, 5), np.repeat(np.arange(40), 5)
    five = Split(many, groups, np.repeat(every, 5)).interval(np.repeat(scores, 5), np.random.default_rng(1))
    assert five == pytest.approx(one)
    assert one.low < one.value < one.high


def test_shuffled_labels_say_nothing_of_the_true_ones(rng: np.random.Generator) -> None:
    _, positive, _ = planted(rng)
    labels = shuffled(positive, rng)
    assert labels.sum() == pytest.approx(positive.sum(), abs=1)
    assert labels[positive].mean() == pytest.approx(labels[~positive].mean(), abs=0.02)


def test_a_learning_curve_rises_and_ends_at_the_probe(rng: np.random.Generator) -> None:
    x, positive, groups = planted(rng)
    split = Split.of(positive, groups, rng)
    points = learning_curve("logistic", x, split, rng, 0.01)
    assert [point.n for point in points] == sorted(point.n for point in points)
    assert points[-1].n == (~split.test).sum()
    assert points[-1].value == graded_with(x, split, 0.01)
    assert points[-1].value > points[0].value - 0.02


def graded_with(x: np.ndarray, split: Split, setting: float) -> float:
    train = ~split.test
    fitted = fit_probe("logistic", x[train], split.positive[train], split.groups[train], 0, setting)
    return split.auroc(fitted.scores(x[split.test]))


def test_a_gain_holds_zero_between_equal_probes(rng: np.random.Generator) -> None:
    x, positive, groups = planted(rng)
    split = Split.of(positive, groups, rng)
    scores = x[split.test][:, PLANTED]
    assert gain(scores, scores, split, rng) == (0, 0, 0)
    better = gain(scores, x[split.test][:, 0], split, rng)
    assert better.low > 0


def test_texts_of_one_entity_make_no_gain_surer(rng: np.random.Generator) -> None:
    positive = np.arange(40) % 2 == 0
    scores, others = (rng.normal(size=40) + share * positive for share in (1.0, 0.5))
    every = np.ones(40, bool)
    one = gain(scores, others, Split(positive, np.arange(40), every), np.random.default_rng(1))
    five = Split(np.repeat(positive, 5), np.repeat(np.arange(40), 5), np.repeat(every, 5))
    assert gain(np.repeat(scores, 5), np.repeat(others, 5), five, np.random.default_rng(1)) == pytest.approx(one)


def test_a_probe_is_clear_where_its_interval_is() -> None:
    """Its value above every baseline is not enough."""
    fitted = Fitted("logistic", None, 1.0, 0.9)
    beside = Surface(*(Interval(0.7, 0.6, 0.8),) * 5, word="the")
    for low, clear in ((0.65, False), (0.72, True)):
        chosen = Graded(fitted, np.zeros(1), Interval(0.9, low, 0.95), shuffled=0.5, random=0.55)
        assert is_clear(chosen, beside) is clear
    weak = Graded(fitted, np.zeros(1), Interval(0.9, 0.72, 0.95), shuffled=0.5, random=0.75)
    assert not is_clear(weak, beside)


def test_the_surface_is_read_off_length_and_words(rng: np.random.Generator) -> None:
    _, positive, groups = planted(rng)
    split = Split.of(positive, groups, rng)
    surface = np.column_stack([10.0 + 5 * positive + rng.normal(size=N), rng.normal(size=N), rng.normal(size=N)])
    texts = [f"text {'gladly' if each else 'sadly'} {i}" for i, each in enumerate(positive)]
    found = surface_baselines(surface, texts, split, rng)
    assert found.length.value > 0.95
    assert found.together.value > 0.95
    assert abs(found.frequency.value - 0.5) < 0.2
    assert found.word in ("gladly", "sadly")
    assert found.best_word.value == found.best == 1.0


def test_three_planted_units_are_the_three_that_are_chosen(rng: np.random.Generator) -> None:
    """k-sparse probing (2305.01610) on a label that is the sum of three units among forty."""
    x = np.maximum(rng.normal(size=(600, 40)), 0)
    truth = x[:, [3, 17, 29]].sum(1) + 0.1 * rng.normal(size=600)
    positive = truth > np.median(truth)
    assert sorted(chosen_units(x, positive, 3)) == [3, 17, 29]
    split = Split.of(positive, np.arange(600), rng)
    one, three = (scored(x, split, size, rng) for size in (1, 3))
    assert sorted(three.units) == [3, 17, 29]
    assert three.own.value > 0.95 > one.own.value
    assert three.f1 > 0.85
    assert rotated(x, split, [1, 3], rng)[1] < three.own.value


def test_a_circle_is_found_and_an_order_that_is_not_there_is_not(rng: np.random.Generator) -> None:
    n = 7
    angle = 2 * np.pi * np.arange(n) / n
    x = rng.normal(size=(n, 30)) * 0.05
    x[:, :2] += np.column_stack([np.cos(angle), np.sin(angle)])
    axes, share = plane(x)
    points = placed(x, axes)
    order = order_on(points, "circle")
    assert neighbours(order, "circle") == 1.0
    assert neighbours(np.roll(order[::-1], 3), "circle") == 1.0
    assert radius_variation(points) < 0.2
    assert share > 0.8
    assert chance(1.0, n, "circle", rng) == pytest.approx(14 / 5040)
    assert neighbours(order_on(points[:, [0, 0]], "line"), "line") < 1.0
    mixed = np.array([0, 2, 4, 6, 1, 3, 5])
    assert neighbours(mixed, "circle") == 0.0
    assert chance(0.0, n, "circle", rng) == 1.0
    assert neighbours(np.arange(n), "line") == neighbours(np.arange(n)[::-1], "line") == 1.0


def test_the_best_of_many_places_is_no_order_found(rng: np.random.Generator) -> None:
    """Items in no order, alike in both halves of the texts: the chance at the place that was chosen is too low without
    the choice counted, and right with it."""
    alone, counted = [], []
    for _ in range(60):
        fitted = [rng.permutation(8) for _ in range(12)]
        best = max(fitted, key=lambda order: neighbours(order, "circle"))
        score = neighbours(best, "circle")
        alone.append(chance(score, 8, "circle", rng) < 0.05)
        counted.append(chance_where_best(fitted, fitted, score, "circle", rng) < 0.05)
    assert np.mean(alone) > 0.2
    assert np.mean(counted) <= 0.1
    perfect = [np.arange(8), np.roll(np.arange(8)[::-1], 3)]
    assert chance_where_best(perfect, perfect, 1.0, "circle", rng) < 0.01
    assert chance_where_best(perfect[:1], perfect[:1], 1.0, "circle", rng) == chance(1.0, 8, "circle", rng)


def test_an_interaction_is_that_of_welch(rng: np.random.Generator) -> None:
    """Against scipy's own interval of a difference of means."""
    change = np.concatenate([rng.normal(2, 3, 9), rng.normal(0, 1, 14)])
    found = conditional_effect._interaction(change, 9)
    expected = ttest_ind(change[:9], change[9:], equal_var=False).confidence_interval()
    assert found == pytest.approx((change[:9].mean() - change[9:].mean(), *expected))
    assert conditional_effect._interaction(np.array([1.0, 1.0, 0.0, 0.0]), 2) == (1.0, 1.0, 1.0)


def test_the_right_value_stands_first_where_it_is_planted(rng: np.random.Generator) -> None:
    truth = np.arange(200) % 4
    x = rng.normal(size=(200, 10))
    x[np.arange(200), truth] += 4
    test = np.zeros(200, bool)
    test[rng.permutation(200)[:60]] = True
    found = classed(x, truth, test, rng)
    assert found.own.low > 0.9
    assert found.accuracy > 0.85
    assert abs(found.shuffled - 0.5) < 0.15
    names = [f"{'abcd'[value] * 3}{i}" for i, value in enumerate(truth)]
    assert by_spelling(names, truth, test).mean() > 0.95
    assert standing(np.zeros((3, 4)), np.array([0, 1, 2])).tolist() == [0.5, 0.5, 0.5]


def test_labels_that_stand_in_the_text_are_said() -> None:
    positive = np.array([True, True, False, False])
    said = leak(["a clickbait text", "another", "plain", "old"], positive, ("clickbait", "factual"))
    assert said == "the label 'clickbait' stands in 1 of the clickbait texts and in no other: it leaks"
    assert leak(["clickbait", "x", "clickbait", "y"], positive, ("clickbait", "factual")) == ""
    assert leak(["1 of 3", "1", "2", "3"], positive, ("1", "0")) == ""  # a number is no word


def test_one_class_and_few_texts_are_refused() -> None:
    with pytest.raises(ToolError, match="All 30 texts are kind"):
        check_counts(np.ones(30, bool), ("kind", "rude"))
    with pytest.raises(ToolError, match=r"There are 9 kind and 10 rude texts.*at least 20"):
        check_counts(np.arange(19) < 9, ("kind", "rude"))


def test_groups_are_numbered_by_name() -> None:
    assert groups_of(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_a_histogram_counts_every_text(rng: np.random.Generator) -> None:
    _, positive, _ = planted(rng)
    shape: Any = histograms(rng.normal(size=N), positive, ("yes", "no"))
    assert [sum(counts) for _, counts in shape.counts] == [positive.sum(), (~positive).sum()]
