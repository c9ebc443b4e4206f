"""The arithmetic of steering on made-up truth: targeted vectors, the subspace illusion, curves and intervals."""

import numpy as np
import pytest
import torch

from tools.workbench.causal import interval, outweighs, stands_clear
from tools.workbench.doses import Curve
from tools.workbench.doses import fit as fit_curve
from tools.workbench.effects import fit, targeted
from tools.workbench.illusion import compare, row_space
from tools.workbench.probes import fit as fit_probe
from tools.workbench.probes import held_out
from tools.workbench.shares import share, share_stands_clear


def planted(n: int, d: int = 24, f: int = 40, noise: float = 0.01) -> tuple[np.ndarray, ...]:
    """Vectors, the effects y = x M + b that they have, M and b; the latents' decoder rows are not what moves them."""
    rng = np.random.default_rng(0)
    m, b = rng.normal(size=(d, f)), 3 * rng.normal(size=f)
    x = rng.normal(size=(n, d))
    return x, x @ m + b + noise * rng.normal(size=(n, f)), m, b


def test_a_planted_linear_model_is_recovered() -> None:
    x, y, m, b = planted(200)
    linear = fit(x, y)
    assert linear.r2 > 0.99
    np.testing.assert_allclose(linear.m, m, atol=0.02)
    np.testing.assert_allclose(linear.b, b, atol=0.02)
    shuffled = fit(x, np.random.default_rng(1).permutation(y))
    assert shuffled.r2 < 0.05


def test_a_targeted_vector_moves_its_latent_more_and_others_less() -> None:
    """Against another latent's decoder row, which points partly elsewhere; both of norm 1."""
    x, y, m, _ = planted(200)
    linear = fit(x, y)
    rng = np.random.default_rng(2)
    wins = 0
    for latent in range(10):
        own = m[:, latent] / np.linalg.norm(m[:, latent])
        decoder = own + 0.2 * rng.normal(size=len(own))
        decoder /= np.linalg.norm(decoder)
        vector = targeted(linear, latent, side=0.0)
        assert vector @ own > 0.999
        effects = [v @ m for v in (vector, decoder)]
        ratios = [e[latent] / np.linalg.norm(np.delete(e, latent)) for e in effects]
        wins += effects[0][latent] >= effects[1][latent] and ratios[0] > ratios[1]
    assert wins >= 9


def test_taking_out_what_every_vector_does_betters_the_ratio() -> None:
    """Of steered text, b included, at the length of the vectors that were learnt from; the paper's lambda of 1."""
    x, y, m, b = planted(200)
    linear = fit(x, y)
    rng = np.random.default_rng(2)
    ratios = []
    for latent in range(10):
        decoder = m[:, latent] / np.linalg.norm(m[:, latent]) + 0.2 * rng.normal(size=len(m))
        vectors = targeted(linear, latent, side=1.0), decoder / np.linalg.norm(decoder)
        effects = [5 * vector @ m + b for vector in vectors]
        ratios.append([effect[latent] / np.linalg.norm(np.delete(effect, latent)) for effect in effects])
    found, plain = np.array(ratios).T
    assert (found > plain).sum() >= 8
    assert found.mean() > 1.1 * plain.mean()


def test_what_every_vector_does_is_taken_out() -> None:
    x, y, m, b = planted(200)
    plain, clean = (targeted(fit(x, y), 3, side) for side in (0.0, 1.0))
    common = m @ b / np.linalg.norm(m @ b)
    assert clean @ common < plain @ common


def test_fewer_vectors_than_dimensions_still_predict() -> None:
    x, y, m, _ = planted(20)
    linear = fit(x, y)
    assert 0 < linear.r2 < 1
    assert np.isfinite(linear.m).all()
    assert targeted(linear, 0) @ m[:, 0] > 0


def test_the_subspace_illusion_is_seen() -> None:
    """The input varies along a disconnected direction; the output reads a dormant one (2311.17030)."""
    base, source = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[-1.0, 0.0]]).double()
    gram = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).double()

    def output(x: torch.Tensor) -> np.ndarray:
        return x[:, 1].numpy()

    false = compare(output, base, source, torch.tensor([1.0, 1.0]).double(), gram)
    assert false.direction == pytest.approx(1)
    assert (false.rowspace_only, false.full) == (0, 0)
    assert false.read == pytest.approx(0.5)
    assert false.warning is not None
    assert "illusion" in false.warning
    true = compare(output, base, source + torch.tensor([[0.0, 2.0]]), torch.tensor([0.0, 1.0]).double(), gram)
    assert (true.direction, true.rowspace_only, true.full, true.warning) == (2, 2, 2, None)


def test_the_row_space_leaves_out_what_is_hardly_read() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.5, 1e-4]))
    part = row_space(gram, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(part, torch.tensor([1.0, 2.0, 0.0]))


def test_a_saturating_curve_is_recovered() -> None:
    x = np.array([1.0, 2, 5, 10, 20, 50])
    for maximum in (4.0, -2.5):
        found = fit_curve(x, Curve(maximum, 6.0).at(x))
        assert found.maximum == pytest.approx(maximum, rel=1e-3)
        assert found.half == pytest.approx(6, rel=1e-3)
    assert abs(fit_curve(x, np.zeros(6)).slope) < 1e-6


def test_clear_means_larger_than_every_control_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    effect, small, large = (rng.normal(mean, 0.5, 20) for mean in (-3, 0.1, 3))
    assert stands_clear(effect, [small, small])
    assert not stands_clear(effect, [small, large]), "a control that moves as far the other way is as far"
    assert not stands_clear(small, [small * 0])
    assert not stands_clear(np.array([5.0]), [np.array([0.0])]), "one prompt is no evidence"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_share_is_clear_where_its_interval_says_so(sign: int) -> None:
    gap = sign * np.array([1.0, 2.0, 9.0])  # pairs of unlike gaps, of which each moves by nearly the same share
    change = gap * np.array([0.640, 0.645, 0.641])
    told = share(change, gap)
    assert told.low is not None
    assert told.low > 0.6
    assert not stands_clear(change, []), "by its own unit the change is not told from 0"
    assert share_stands_clear(change, [0.1 * gap, -0.2 * gap], gap)
    assert not share_stands_clear(change, [-0.7 * gap], gap)
    assert share_stands_clear(change, [], 0 * gap) == stands_clear(change, [])


def test_a_divergence_outweighs_others_prompt_by_prompt() -> None:
    rng = np.random.default_rng(0)
    prompts, noise = np.exp(rng.normal(0, 2, 20)), np.exp(rng.normal(0, 0.2, (3, 20)))
    control = prompts * noise[0]
    assert outweighs(2 * prompts * noise[1], [control, prompts * noise[2]])
    assert not outweighs(prompts * noise[1], [control])
    assert not outweighs(2 * prompts, [control, 4 * prompts]), "one control that does more is enough"
    assert not outweighs(0 * prompts, [0 * prompts])
    assert not outweighs(np.array([5.0]), [np.array([0.1])]), "one prompt is no evidence"


def test_intervals_hold_the_mean_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        low, high = interval(rng.normal(2, 1, 6))
        assert low is not None
        assert high is not None
        inside += low <= 2 <= high
    assert 0.92 <= inside / 400 <= 0.98
    assert interval(np.array([1.0])) == (None, None)


@pytest.mark.parametrize("method", ["mean_difference", "logistic", "pca", "kmeans"])
def test_each_method_finds_a_planted_direction(method: str) -> None:
    rng = np.random.default_rng(3)
    true = np.zeros(30)
    true[4] = 1
    positive = rng.random(120) < 0.5
    x = rng.normal(size=(120, 30)) + 8 * positive[:, None] * true
    probe = fit_probe(method, x[:80], positive[:80], 0)  # type: ignore[arg-type]
    assert probe.vector @ true > 0.8
    assert np.linalg.norm(probe.vector) == pytest.approx(1)
    projections = x @ probe.vector
    assert projections[~positive].mean() < probe.centre < projections[positive].mean()
    held = held_out(method, probe, (x[:80], positive[:80]), (x[80:], positive[80:]), rng)  # type: ignore[arg-type]
    assert held.own.value > 0.99
    assert held.coordinate > 0.99
    if method in ("mean_difference", "logistic"):
        assert abs(held.shuffled - 0.5) < 0.35
