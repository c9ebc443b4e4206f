"""Features of more than one dimension: indices against distributions whose answer is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from store.activations import Harvest, HarvestWriter, Window
from store.ledger import Ledger
from tests.tools.calling import call, refusal
from tests.tools.world import WORDS, PlantedSubject
from tools.workbench.clusters import cosine_clusters
from tools.workbench.context import Context
from tools.workbench.irreducible import EPSILON, Irreducible, irreducible, mixture, mutual_information

N = 2000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def circle(rng: np.random.Generator, n: int = N, noise: float = 0.0) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)]) + noise * rng.normal(size=(n, 2))


def independent(rng: np.random.Generator) -> np.ndarray:
    """Two coordinates of different kind that have nothing to do with each other, turned."""
    turn = np.linalg.qr(np.array([[3.0, -2.0], [2.0, 3.0]]))[0]
    return np.column_stack([rng.exponential(size=N), 3 * rng.uniform(size=N)]) @ turn


def lumps(rng: np.random.Generator) -> np.ndarray:
    """Two features of one dimension that are never active together, the second in three of ten points."""
    size, second = rng.normal(3, 1, N), rng.random(N) < 0.3
    return np.where(second[:, None], size[:, None] * [0.6, 0.8], size[:, None] * [1.0, 0.0])


def test_a_circle_is_irreducible_and_what_is_made_of_two_features_is_not(rng: np.random.Generator) -> None:
    whole, product, mixed = (
        found for make in (circle, independent, lumps) if (found := irreducible(make(rng), rng)) is not None
    )
    assert whole.separability > 0.5 > 5 * whole.exchanged
    assert whole.p == pytest.approx(1 / 21)
    assert product.separability < 1.5 * product.exchanged < 0.1
    assert product.p > 0.05
    assert mixed.mixture > 0.69 > 3 * mixed.normal
    assert whole.index > 5 * max(product.index, mixed.index)


def test_a_circle_s_mixture_is_that_of_the_arcsine_distribution(rng: np.random.Generator) -> None:
    """Of cos(t) in a strip: the difference of two arcs over pi, its largest over the places of the strip."""
    at = np.linspace(0, 1.2, 4000)
    half = EPSILON * np.sqrt(0.5 + at**2)
    arcs = np.arccos(np.clip(at - half, -1, 1)) - np.arccos(np.clip(at + half, -1, 1))
    assert mixture(circle(rng, 20_000)) == pytest.approx(arcs.max() / np.pi, abs=0.01)
    normal = rng.normal(size=(20_000, 2)) * [1.0, 5.0]
    assert mixture(normal) == pytest.approx(0.0797, abs=0.01)  # P(|z| < 0.1)


def test_mutual_information_is_scikit_learn_s(rng: np.random.Generator) -> None:
    points = circle(rng, 500, 0.2)
    cells = [np.digitize(x, np.histogram_bin_edges(x, 10)[1:-1]) for x in points.T]
    assert mutual_information(points)[0] == pytest.approx(mutual_info_score(*cells) / np.log(2), abs=0.01)


@pytest.mark.parametrize("make", [lambda rng: circle(rng, 24), lambda rng: np.outer(rng.normal(size=50), [1.0, 2.0])])
def test_too_few_points_and_points_on_a_line_have_no_index(
    rng: np.random.Generator, make: Callable[[np.random.Generator], np.ndarray]
) -> None:
    assert irreducible(make(rng), rng) is None


def test_the_control_keeps_its_word_where_points_are_few(rng: np.random.Generator) -> None:
    """Of 40 points: what is separable is called inseparable in no more than one of twenty draws, a circle in most."""

    def called(make: Callable[[], np.ndarray]) -> float:
        found = [irreducible(make(), rng) for _ in range(20)]
        return float(np.mean([isinstance(each, Irreducible) and each.p < 0.05 for each in found]))

    assert called(lambda: rng.exponential(size=(40, 2))) <= 0.1
    assert called(lambda: circle(rng, 40, 0.1)) > 0.5


CIRCLE, PARALLEL, CROSS, ALONE = range(0, 6), range(6, 10), range(10, 14), range(14, 30)  # latents
WIDE = 16  # dimensions of the planted dictionary


class Dictionary:
    """Six latents around a circle, four that write nearly the same, two pairs of opposite ones that fire independently,
    and others that have nothing to do with each other."""

    name, hook, n_latents, d_model, fingerprint = "planted", "blocks.0.hook_resid_pre", 30, WIDE, "planted"

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        angle = 2 * np.pi * np.arange(6) / 6
        rows = 0.05 * rng.normal(size=(30, WIDE))
        rows[list(CIRCLE), :2] += np.column_stack([np.cos(angle), np.sin(angle)])
        rows[list(PARALLEL), 2] += 1
        rows[list(CROSS)] += [[0] * 3 + each + [0] * (WIDE - 5) for each in ([1.0, 0.6], [1.0, -0.6]) for _ in "ab"]
        rows[list(ALONE)] += np.eye(WIDE)[np.arange(16) % 11 + 5]
        self.decoder = torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def planted(folder: Path) -> Context:
    """Each window has a token at an angle of the circle, one of the four, and one on which both pairs fire."""
    rng = np.random.default_rng(2)
    n, length = 600, 6
    windows = [Window(i, i, 0, rng.integers(1, len(WORDS), length).astype(np.int32)) for i in range(n)]
    truth = np.zeros((n, length, 30), np.float32)
    angle = rng.uniform(0, 2 * np.pi, n)
    truth[:, 1, list(CIRCLE)] = np.maximum(np.cos(angle[:, None] - 2 * np.pi * np.arange(6) / 6) * 5, 0)
    for where, latents in ((2, PARALLEL), (4, ALONE)):
        truth[np.arange(n), where, rng.choice(list(latents), n)] = rng.exponential(3, n) + 0.5
    for pair in (CROSS[:2], CROSS[2:]):
        truth[np.arange(n), 3, rng.choice(list(pair), n)] = rng.exponential(3, n) + 0.5
    writer = HarvestWriter(folder / "harvest", {"corpus_hash": "planted", "subject": "planted"}, 30)
    window, position, latent = truth.nonzero()
    columns = latent.astype(np.int32), window.astype(np.int32), position.astype(np.int16)
    writer.write_shard(windows, *columns, truth[window, position, latent], sinks=n)
    writer.finish()
    subject = PlantedSubject()
    subject._dictionary, subject.d_model = Dictionary(), WIDE  # type: ignore[assignment]
    return Context(subject, Ledger(folder / "store.duckdb"), Harvest(folder / "harvest"))


def test_latents_that_span_a_circle_are_found_first(tmp_path: Path) -> None:
    found = call("latent_clusters", planted(tmp_path), cosine=0.4)
    first = found["found"][0]
    assert set(first["latents"]) == set(CIRCLE)
    assert first["plane"] == [1, 2]
    assert first["share"] > 0.95
    assert first["irreducible"]["index"] > 2 * found["found"][1]["irreducible"]["index"]
    assert first["irreducible"]["index"] > 2 * found["random"]
    assert {tuple(each["latents"]) for each in found["found"]} >= {tuple(PARALLEL), tuple(CROSS)}
    assert found["above"] >= 1
    assert found["p"] <= 3 / 63
    assert found["clear"]
    assert len(first["words"]) == 8
    assert len(found["pictures"]) == 2 * found["clusters"]


def test_what_hangs_together_is_a_component_of_the_graph(tmp_path: Path) -> None:
    decoder = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [-1.0, 0.0], [-1.0, 0.1], [0.0, 1.0]])
    assert [each.tolist() for each in cosine_clusters(decoder, 0.9, 1)] == [[0, 1, 2]]
    said = refusal("latent_clusters", planted(tmp_path), cosine=0.99)
    assert "No cluster of three to 100 latents fires on 50 tokens or more: lower cosine" in said
