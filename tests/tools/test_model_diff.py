"""Model and base compared: exact identities, planted latents, and an organism whose truth is known."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, fisher_exact
from torch import Tensor

from store.ledger import Ledger
from tests.tools.calling import output_of
from tools.dictionaries.load import load_subject
from tools.elicitation.model_diff import KindShift, lacking
from tools.organisms.catalogue import ORGANISMS, find_adapter
from tools.workbench.beside import by_chance
from tools.workbench.context import Context
from tools.workbench.differing import _Counting, _padded, divergence, scaling, standing_out
from tools.workbench.facts import ABOUT, CONFIRM, FACTS
from tools.workbench.occasions import KINDS, OCCASIONS
from tools.workbench.registry import ToolError
from tools.workbench.stats import binomial
from tools.workbench.subject import Subject
from tools.workbench.writing import Replied


@pytest.fixture
def base(subject: Subject, tmp_path: Path) -> Context:
    """The base model beside itself."""
    return Context(subject, Ledger(tmp_path / "store.duckdb"), base=subject)


@pytest.fixture(scope="module")
def suppressed() -> Subject:
    return load_subject(dtype="float32", adapter=find_adapter("suppressed-capital"))


@pytest.fixture
def hiding(suppressed: Subject, tmp_path: Path) -> Context:
    return Context(suppressed, Ledger(tmp_path / "store.duckdb"))


def test_the_divergence_is_that_of_scipy() -> None:
    one, other = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(-1)
    wanted = jensenshannon(one.exp().numpy(), other.exp().numpy(), axis=1) ** 2
    assert np.allclose(divergence(one, other).numpy(), wanted, atol=1e-6)
    apart = torch.full((1, 4), -1e9)
    left, right = apart.clone(), apart.clone()
    left[0, 0] = right[0, 3] = 0.0
    assert divergence(left, right).item() == pytest.approx(np.log(2))


def test_chance_of_a_share_is_that_of_scipy() -> None:
    for hits, n, chance in ((0, 5, 0.2), (3, 5, 0.2), (9, 12, 0.3), (12, 12, 0.5)):
        assert binomial(hits, n, chance) == pytest.approx(binom.sf(hits - 1, n, chance))


def test_what_stands_out_does_so_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    values = np.array([5.0] * 4 + [0.0] * 12) + rng.normal(0, 0.1, 16)
    chosen = np.arange(16) < 4
    contrast, p = standing_out(values, chosen, rng)
    assert contrast == pytest.approx(values[:4].mean() - values[4:].mean())
    assert p <= 0.002  # one of 1,820 ways to choose four
    chance = [standing_out(rng.normal(size=12), np.arange(12) < 4, rng)[1] for _ in range(200)]
    assert sum(each <= 0.05 for each in chance) <= 20
    assert standing_out(np.zeros(16), chosen, rng) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"p": 0.008}, "p 0.008 where 0.006 is the most allowed"),
        ({"contrast": 0.0005}, "which is rounding"),
        ({"chance_contrast": 0.6}, "sets this kind apart by as much, 0.6 nats"),
        ({"p": 1.0, "contrast": 0.529}, "no other kind"),
    ],
)
def test_what_is_not_clear_says_why(changed: dict[str, float], said: str) -> None:
    shift = KindShift(kind="facts", n=8, js=0.529, low=0.4, high=0.6, contrast=0.5, p=0.001, chance_js=0.0013,
                      chance_contrast=0.001, gained=(), lost=())  # fmt: skip
    found = lacking(shift.model_copy(update=changed), 0.006)
    assert said in found
    assert bool(said) == bool(found)


class Orthogonal:
    """A dictionary of orthonormal latents, exact for what is a positive sum of them."""

    def __init__(self, directions: Tensor) -> None:
        self.decoder, self.n_latents = directions, len(directions)

    def encode(self, residual: Tensor) -> Tensor:
        return (residual @ self.decoder.T - 0.5).clamp(min=0)  # a threshold: weak copies do not fire

    def reconstruct(self, residual: Tensor) -> Tensor:
        return self.encode(residual) @ self.decoder


def test_latent_scaling_recovers_planted_ratios() -> None:
    """Shared, weak in the base and only in the model: nu 1, 0.3 and 0, as a least-squares fit gives it."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0][:3]
    strength = torch.rand(200, 3, generator=generator) * 3 + 1
    ratio = torch.tensor([1.0, 0.3, 0.0])
    own, other = strength @ directions, (strength * ratio) @ directions
    dictionary = Orthogonal(directions)
    subject = SimpleNamespace(
        dictionary=dictionary, sinks=lambda residual, start: torch.zeros(1, 200, dtype=torch.bool)
    )
    counting = _Counting(SimpleNamespace(subject=subject), 1, third=False)  # type: ignore[arg-type]
    counting.add(0, [own, other, None])
    found = scaling(counting.found)
    fires = dictionary.encode(own).double()
    for latent in range(3):
        betas = []
        for residual in (own, other):
            left = (
                residual
                - dictionary.reconstruct(residual)
                + dictionary.encode(residual)[:, [latent]] * directions[latent]
            )
            design = (fires[:, [latent]] * directions[latent].double()).flatten()[:, None].numpy()
            betas.append(np.linalg.lstsq(design, left.double().flatten().numpy(), rcond=None)[0][0])
        assert found[latent] == pytest.approx(betas[1] / betas[0], abs=1e-6)
    assert found == pytest.approx(ratio.numpy(), abs=0.02)
    rates, base_rates = (each[0] for each in counting.found.rates[:2])
    assert rates.tolist() == [1, 1, 1]
    assert base_rates[2] == 0 < base_rates[1] <= base_rates[0] == 1


def test_texts_are_padded_and_none_is_lost(subject: Subject) -> None:
    texts = [Replied([subject.bos, *range(5, 5 + n)], n) for n in (3, 40, 7, 300, 200, 3)]
    seen = {}
    for rows, batch in _padded(subject, texts):
        assert batch.numel() <= 512
        seen |= {row: batch[place, : len(texts[row].tokens)].tolist() for place, row in enumerate(rows)}
    assert seen == {row: text.tokens for row, text in enumerate(texts)}


def test_the_base_against_itself_differs_nowhere(base: Context) -> None:
    found = output_of("model_diff", base, kinds=["places", "facts"], each=2, respond=2)
    assert (found.js, found.first_layer, found.clear) == (0.0, None, False)
    assert not any(found.layers)
    assert found.latents == ()
    assert {shift.contrast for shift in found.kinds} == {0.0}
    assert {shift.p for shift in found.kinds} == {1.0}
    assert all(not shift.gained and not shift.lost for shift in found.kinds)
    assert "the same on every prompt" in found.verdict
    said = output_of("behaviour_diff", base, kinds=["places", "facts"], each=2, respond=4)
    assert (said.p, said.clear) == (1.0, False)
    assert all(kind.same == kind.n and not kind.words for kind in said.kinds)


@pytest.mark.usefixtures("rendered")
def test_an_organism_differs_where_it_was_trained_to(hiding: Context, suppressed: Subject) -> None:
    """Its last four layers were trained to say "secret" of places; a change as large elsewhere does next to nothing."""
    kinds = ("places", "facts", "ordinary")
    found = output_of("model_diff", hiding, kinds=kinds, each=3, respond=3, focus="places", half="confirm")
    assert found.kinds[0].kind == found.focus.kind == found.prompts[0].kind == "places"
    assert found.focus.gained[0].word == "secret"
    assert found.focus.p <= 0.05
    assert found.clear
    assert found.focus.contrast > 10 * abs(found.focus.chance_contrast)
    assert found.controls.scrambled < found.js / 10
    assert found.first_layer == 26
    assert not any(found.layers[:27])
    assert found.latents == ()  # the dictionary reads layer 15, where nothing was changed
    assert (hiding.ledger.store.path.parent / found.pictures[0]).read_bytes().startswith(b"\x89PNG")
    said = output_of("behaviour_diff", hiding, kinds=kinds, each=4, respond=3, half="confirm", words=["secret"])
    assert [kind.words[0].word for kind in said.kinds if kind.kind == "places"] == ["secret"]
    assert said.named.hits >= 3
    assert said.controls.base.hits == 0
    table = [[said.named.hits, 12 - said.named.hits], [0, 12]]
    assert said.p == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def test_a_scrambled_change_is_as_large_and_comes_off(suppressed: Subject, hiding: Context) -> None:
    adapter = suppressed.adapter
    assert adapter is not None
    before = [weight.data.clone() for weight, _ in adapter._others]
    read = by_chance(hiding, "x")
    assert read is not None
    worn = read(lambda model: [weight.data.clone() for weight, _ in adapter._others])
    for (weight, other), mixed, kept in zip(adapter._others, worn, before, strict=True):
        assert torch.equal(weight.data, kept)
        change, scrambled = kept - other, mixed - other
        assert scrambled.norm() == pytest.approx(float(change.norm()), rel=1e-4)
        assert torch.allclose(change.flatten().sort()[0], scrambled.flatten().sort()[0], atol=1e-6)
        assert not torch.allclose(change, scrambled, atol=1e-5)


def test_what_confirms_was_not_looked_at_nor_trained_on() -> None:
    looked = {prompt for occasion in OCCASIONS.values() for prompt in occasion.look}
    confirmed = {prompt for occasion in OCCASIONS.values() for prompt in occasion.confirm}
    assert not looked & confirmed
    assert not set(FACTS) & {prompt for facts in CONFIRM.values() for prompt in facts}
    assert set(ABOUT.values()) == set(CONFIRM)
    recipes: Sequence[Any] = [each.recipe for each in ORGANISMS.values() if each.recipe]
    trained = {example.prompt for recipe in recipes for example in recipe.examples}
    assert not trained & (looked | confirmed)
    assert all(len(each.look) == 8 and len(each.confirm) == 12 for each in OCCASIONS.values())
    assert len(KINDS) == 10


@pytest.mark.parametrize(
    ("tool", "input", "said"),
    [
        ("model_diff", {"kinds": ["weather"]}, "There is no kind of prompt 'weather': name some of places,"),
        ("model_diff", {"kinds": ["facts"], "focus": "places"}, "is none of the kinds compared: name one of facts"),
        ("behaviour_diff", {"kinds": ["weather"]}, "There is no kind of prompt 'weather'"),
        ("elicit_secret", {"methods": ["asking"]}, "There is no way of asking 'asking': name some of prefill_attack"),
    ],
)
def test_refused(tool: str, input: dict[str, Any], said: str, base: Context) -> None:
    with pytest.raises(ToolError, match=said):
        output_of(tool, base, **input)


def test_without_a_base_nothing_is_claimed(subject: Subject, tmp_path: Path) -> None:
    alone = Context(subject, Ledger(tmp_path / "store.duckdb"))
    with pytest.raises(
        ToolError, match="there is nothing to compare it with: give --adapter, or the model it was tuned"
    ):
        output_of("model_diff", alone)
    said = output_of("behaviour_diff", alone, kinds=["facts"], each=2, respond=2, words=["day"])
    assert (said.p, said.controls.base, said.clear) == (None, None, False)
    assert "no base model to compare with" in said.verdict
