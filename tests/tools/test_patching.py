"""Patching agrees with the plain way at every kind of site, finds what is known, and says what it cannot do."""

from typing import Any

import numpy as np
import pytest
import torch

from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import call
from tests.tools.tiny import gate, tiny
from tools.workbench import passes
from tools.workbench.context import Context
from tools.workbench.metrics import Metric
from tools.workbench.pairs import Aligned, Contrast, ContrastPair, align, aligned, batch, measure
from tools.workbench.patching import Mode, Patch, Patcher
from tools.workbench.registry import ToolError, get_tool
from tools.workbench.run import validate
from tools.workbench.shares import share
from tools.workbench.sites import KINDS, Kind, Site, named, point, read, sweep, units
from tools.workbench.subject import Subject
from tools.workbench.sweeps import typical
from tools.workbench.templates import candidates

S2 = 10
DIFFERENCE = Metric(kind="answer_difference", answers=("a",), down=("b",))


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("patching") / "store.duckdb"))


@pytest.fixture(scope="module")
def ioi(subject: Subject) -> tuple[Aligned, ...]:
    return aligned(subject, Contrast(template="ioi", n=4)).same_places(subject).kept


@pytest.fixture(scope="module")
def noising(context: Context, ioi: tuple[Aligned, ...]) -> Patcher:
    own = ioi[:2]
    return Patcher(context, batch(own), measure(context.subject, own, "logit_difference"), "noising")


@pytest.fixture
def toy(subject: Subject, tmp_path: Any) -> Context:
    return Context(tiny(subject.tokenizer, str(tmp_path)), Ledger(tmp_path / "store.duckdb"))


def plain(patcher: Patcher, site: Site) -> np.ndarray:
    """float64[n]: the patch by a whole `run_with_hooks`."""
    subject, (kind, _) = patcher.subject, site.at
    at = slice(None) if site.position is None else site.position
    unit = slice(None) if site.index is None else site.index
    where: Any = (slice(None), unit, at) if kind == "pattern" else (slice(None), at, unit)
    where = where if units(subject, kind) else where[:2]
    caught: list[torch.Tensor] = []

    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        if kind != "latent":
            value = value.clone()
            value[where] = caught[0][where]
            return value
        now, latents = (read(subject, kind, each.clone()) for each in (value, caught[0]))
        moved = torch.zeros_like(now)
        moved[where] = (latents - now)[where]
        return value + moved @ subject.dictionary.decoder

    hook = point(subject, *site.at)
    with torch.no_grad():
        looks = [(hook, lambda value, hook: caught.append(value.clone()))]
        subject.model.run_with_hooks(patcher.other.tokens, return_type=None, fwd_hooks=looks)
        logits = subject.model.run_with_hooks(patcher.into.tokens, fwd_hooks=[(hook, put)])[:, -1].double()
    answer, other = (each[:, None].to(logits.device) for each in (patcher.batch.answer, patcher.batch.other))
    found: np.ndarray = (logits.gather(-1, answer) - logits.gather(-1, other))[:, 0].cpu().numpy()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_is_what_run_with_hooks_gives(noising: Patcher, kind: Kind) -> None:
    """Two sites in one pass, one of every position and one of a single position, of the highest unit."""
    subject = noising.subject
    layer = 15 if kind == "latent" else 20
    n = units(subject, kind)
    index = None if n is None else n - 1
    if kind == "latent":
        index = int(noising.values("latent", layer)[0, S2].argmax())
    sites = [Site(kind, layer, None, index), Site(kind, layer, S2, index)]
    found = noising.run([Patch((site,)) for site in sites])
    assert np.abs(found[0] - plain(noising, sites[0])).max() < 1e-4
    assert np.abs(found[1] - plain(noising, sites[1])).max() < 1e-4


def test_nothing_put_in_changes_nothing_and_everything_changes_all(noising: Patcher) -> None:
    every = tuple(sweep(noising.subject, "resid_pre", [7]))
    own, other, before = noising.run(
        [Patch(every, "own"), Patch(every), Patch((Site("resid_pre", 7, noising.first - 1),))]
    )
    assert noising.effects(own).effect == pytest.approx(0, abs=1e-5)
    assert noising.effects(other) == pytest.approx((1, 1, 1), abs=1e-5)
    assert (before == noising.own).all()  # the prompts are the same up to there


def test_a_random_direction_is_as_long_as_the_change(noising: Patcher) -> None:
    site = Site("resid_pre", 20, S2)
    own, other, *drawn = (
        put(noising.values("resid_pre", 20, "own"))[:, S2]
        for source in ("own", "other", 0, 1)
        for _, put in noising.splices(Patch((site,), source))
    )
    for each in drawn:
        assert (each - own).norm(dim=-1).tolist() == pytest.approx((other - own).norm(dim=-1).tolist(), rel=1e-3)
    assert not torch.allclose(*drawn)


def test_other_sites_are_compared_with_as_a_whole() -> None:
    changes = np.array([[3.0, 1.0], [-1.0, -3.0], [0.0, 0.0]])
    (mean,) = typical(changes)
    assert mean == pytest.approx([4 / 3, 4 / 3])
    assert mean.mean() == pytest.approx(np.abs(changes.mean(1)).mean())
    assert typical(changes[:0]) == []


def test_ioi_moves_from_the_second_subject_to_the_end(context: Context) -> None:
    found = call("activation_patching", context, template="ioi", n=4, layers=[0, 18, 21, 24, 28], positions=[S2, 14])
    s2, end = (
        dict(zip((0, 18, 21, 24, 28), column, strict=True)) for column in zip(*found["map"]["values"], strict=True)
    )
    assert s2[0] == pytest.approx(1, abs=0.02)
    assert s2[18] == pytest.approx(1, abs=0.1)
    assert 0.2 < s2[21] < 0.8
    assert abs(s2[24]) < 0.25
    assert abs(end[0]) < 0.01
    assert end[21] < end[24] < end[28]
    assert end[28] > 0.85
    assert found["controls"]["own_values"] == pytest.approx(0, abs=1e-5)
    assert found["controls"]["whole_stream"] == pytest.approx(1, abs=1e-5)
    assert abs(found["controls"]["random_direction"]) < 0.5
    assert len(set(found["controls"]["randoms"])) == 9
    assert max(found["controls"]["randoms"], key=abs) == found["controls"]["random_direction"]
    assert np.abs(found["controls"]["others"]).mean() == pytest.approx(found["controls"]["random_sites"])
    assert found["clear"]
    assert "S2" in found["map"]["columns"][0]
    assert "sufficient" in found["licence"]


def test_each_warning_is_given(context: Context) -> None:
    found = call(
        "activation_patching",
        context,
        template="ioi",
        n=2,
        site="attn_out",
        layers=[22, 23],
        positions=[14],
        window=2,
        mode="noising",
        metric="probability",
        replacement="mean",
    )
    assert found["sites"] == 1
    assert found["top"][0]["site"] == "L22 attn_out @ 14 to L23"
    assert "necessary" in found["licence"]
    said = " ".join(found["warnings"])
    assert all(word in said for word in ("hides sites", "Mean ablation", "window of 2"))


@pytest.mark.parametrize("metric", ["kl", "log_probability"])
def test_other_metrics_go_from_clean_to_corrupted(context: Context, ioi: tuple[Aligned, ...], metric: Any) -> None:
    patcher = Patcher(context, batch(ioi[:1]), measure(context.subject, ioi[:1], metric))
    assert patcher.theirs[0] == pytest.approx(0, abs=1e-6) if metric == "kl" else patcher.theirs[0] > patcher.own[0]
    found = patcher.run([Patch((Site("resid_pre", 5, S2),))])
    assert patcher.effects(found[0]).effect == pytest.approx(1, abs=0.02)


def test_probability_hides_a_head_that_lowers_the_answer(context: Context, ioi: tuple[Aligned, ...]) -> None:
    """Put into the corrupted run, where the answer is unlikely already, L24H4 takes most of a logit from it and next to
    nothing from its probability; taken out of the clean run, it gives one and more (2309.16042, section 3.2)."""
    head = Patch((Site("z", 24, None, 4),))

    def effect(metric: Any, mode: Mode) -> tuple[float, float]:
        patcher = Patcher(context, batch(ioi), measure(context.subject, ioi, metric), mode)
        values = patcher.run([head])[0]
        return float((values - patcher.own).mean()), float(patcher.effects(values).effect or 0)

    logits, share = effect("logit_difference", "denoising")
    assert logits < -0.7
    assert share < -0.08
    assert abs(effect("probability", "denoising")[1]) < 0.01
    assert effect("logit_difference", "noising")[0] > 1.4


def test_the_divergence_is_a_metric_of_edits_too(context: Context) -> None:
    head = {"head": 3, "layers": [23]}
    effect = call("ablate", context, targets=[head], prompts=["The cat sat on the"], metric={"kind": "kl"})["effect"]
    assert effect["effect"] == pytest.approx(effect["kl"], abs=1e-4)
    assert effect["effect"] > 1e-3


def test_a_latent_is_a_metric_too(context: Context, ioi: tuple[Aligned, ...], noising: Patcher) -> None:
    latents = [noising.values("latent", 15, source)[:1] for source in ("own", "other")]
    index = int((latents[0] - latents[1]).abs()[0].sum(0).argmax())
    patcher = Patcher(context, batch(ioi[:1]), Metric(kind="latent", latent=index), "noising")
    whole, after = patcher.run([Patch((Site("resid_pre", 3),)), Patch((Site("resid_pre", 20),))])
    assert patcher.effects(whole).effect == pytest.approx(1, abs=1e-4)
    assert after == pytest.approx(patcher.own)  # what lies above the dictionary cannot move it


@pytest.mark.parametrize(("needs", "noised", "denoised"), [(2, 1, 0), (1, 0, 1)])
def test_gates_tell_necessary_from_sufficient(toy: Context, needs: int, noised: int, denoised: int) -> None:
    """AND: noising either input breaks it, denoising either alone restores nothing. OR: the reverse (2404.15255)."""
    own = gate(toy.subject, needs)
    effects: dict[Mode, list[float | None]] = {}
    for mode in ("noising", "denoising"):
        patcher = Patcher(toy, own, DIFFERENCE, mode)
        assert abs(patcher.theirs - patcher.own) > 1
        values = patcher.run([Patch((Site("resid_pre", 0, position),)) for position in (1, 2)])
        effects[mode] = [patcher.effects(each).effect for each in values]
    assert effects["noising"] == pytest.approx([noised] * 2, abs=1e-3)
    assert effects["denoising"] == pytest.approx([denoised] * 2, abs=1e-3)


def test_noise_and_ablation_are_offered(toy: Context) -> None:
    own = gate(toy.subject, 2)
    sites = Patch((Site("v", 0, None, 0),))
    assert Patcher(toy, own, DIFFERENCE, "noising", "zero").run([sites]) == pytest.approx(0, abs=1e-4)
    noisy = Patcher(toy, own, DIFFERENCE, "noising", "gaussian")
    assert (noisy.other.tokens == noisy.into.tokens).all()
    assert not torch.equal(noisy.other.residuals[0], noisy.into.residuals[0])
    with pytest.raises(ToolError, match="use noising"):
        Patcher(toy, own, DIFFERENCE, "denoising", "mean")


def test_equal_metrics_have_no_share() -> None:
    assert share(np.array([1.0, 2.0]), np.array([1e-6, -1e-6])) == (None, None, None)


def test_undefined_effects_are_said(context: Context) -> None:
    """The answers swapped in one of two equal pairs: their gaps cancel."""
    pair = {"clean": "When Mary and John went home, John gave a book to", "answer": " Mary", "other": " John"}
    pair["corrupted"] = pair["clean"].replace("John gave", "Mary gave")
    swapped = {**pair, "answer": pair["other"], "other": pair["answer"]}
    found = call("activation_patching", context, pairs=[pair, swapped], layers=[20], positions=[8])
    assert found["strongest"]["effect"] is None
    assert any("no share" in warning for warning in found["warnings"])


def test_little_memory_makes_smaller_passes(toy: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    patches = [Patch((Site("resid_pre", 0, position),)) for position in (1, 2, 3)]
    patcher = Patcher(toy, gate(toy.subject, 2), DIFFERENCE)
    plenty = patcher.run(patches)
    monkeypatch.setattr(passes, "spendable", lambda device: 0)
    assert patcher.run(patches) == pytest.approx(plenty, abs=1e-6)
    assert any("smaller" in note for note in patcher.notes)


def test_memory_that_runs_out_is_gone_around(noising: Patcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noising, "_passes", passes.Passes(noising.subject, noising.n, noising.length))
    measured = noising._measured

    def failing(run: Any, pairs: list[int], *rest: Any) -> np.ndarray:
        if len(pairs) > 1:
            raise torch.cuda.OutOfMemoryError
        return measured(run, pairs, *rest)

    patches = [Patch((Site("resid_pre", 28, S2),))]
    plenty = noising.run(patches)
    monkeypatch.setattr(noising, "_measured", failing)
    assert noising.run(patches) == pytest.approx(plenty, abs=1e-5)
    assert "did not suffice" in noising.notes[0]


PAIR = {
    "clean": "The capital of France is",
    "corrupted": "The capital of Italy is",
    "answer": " Paris",
    "other": " Rome",
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"corrupted": PAIR["clean"]}, "the same tokens"),
        ({"corrupted": "The capital city of Italy is"}, "clean has 5 tokens and corrupted 6"),
        ({"corrupted": "A nice capital of Italy"}, "other positions"),
        ({"other": " Paris"}, "are the same"),
    ],
)
def test_pairs_that_cannot_be_used_are_dropped(subject: Subject, changed: dict[str, str], reason: str) -> None:
    found = align(subject, [ContrastPair(**PAIR), ContrastPair(**{**PAIR, **changed})])
    assert len(found.kept) == 1
    assert reason in found.dropped[0].reason
    with pytest.raises(ToolError, match=reason):
        aligned(subject, Contrast(pairs=(ContrastPair(**{**PAIR, **changed}),)))


def test_of_several_tokens_the_first_that_differ_are_measured(subject: Subject) -> None:
    pair = ContrastPair(clean="It took 71 days, until", corrupted="It took 21 days, until", answer=" 85", other=" 84")
    (found,) = align(subject, [pair]).kept
    ahead = subject.tokenize([" 8"])[0]
    assert list(found.clean[-len(ahead) :]) == ahead
    assert subject.token_strings([found.answer, found.other]) == ["5", "4"]
    assert "several tokens" in str(found.note)


def test_templates_make_pairs_that_the_model_answers(context: Context) -> None:
    found = call("contrast_pairs", context, template="capital", n=4)
    assert len(found["pairs"]) == 4
    assert found["right_on_clean"] == found["right_on_corrupted"] == 1
    assert found["comparable"] == 4
    assert "COUNTRY" in found["pairs"][0]["roles"]


def test_later_years_are_told_from_earlier_ones_as_near(context: Context) -> None:
    found = call("contrast_pairs", context, template="greater_than", n=12)
    assert found["right_on_clean"] >= 0.9
    assert found["clean"] > 2 > -found["corrupted"]  # where both are right, little decides between them
    for made in candidates("greater_than", 0, 40):
        year, other_year = (int(text.split("year ")[1][2:4]) for text in (made.clean, made.corrupted))
        assert int(made.answer) - year == year - int(made.other) == 10
        assert other_year < int(made.other)


@pytest.mark.parametrize("template", ["greater_than", "agreement", "pronoun", "days", "months", "induction"])
def test_every_template_is_token_aligned(subject: Subject, template: Any) -> None:
    found = aligned(subject, Contrast(template=template, n=6))
    assert len(found.kept) == 6
    assert all(len(pair.places) == 1 and pair.answer != pair.other for pair in found.kept)
    assert len(found.same_places(subject).kept) == 6


def test_what_does_not_exist_is_said(subject: Subject, toy: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match=r"nearest are blocks.3.attn.hook_z"):
        named(subject, "blocks.3.attn.hook_zz")
    with pytest.raises(ToolError, match="layers 0 to 29"):
        sweep(subject, "z", [30])
    with pytest.raises(ToolError, match="Key head 3 does not exist: there are 3"):
        sweep(subject, "k", [0], indices=[3])
    heads = {name: hook for name, hook in toy.subject.points.items() if ".attn." not in name}
    monkeypatch.setitem(toy.subject.__dict__, "points", heads)
    with pytest.raises(ToolError, match="no separate attention heads"):
        sweep(toy.subject, "z")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"template": None}, "name a template or give pairs"),
        ({"positions": []}, "an empty list"),
        ({"window": 0}, "greater than or equal to 1"),
    ],
)
def test_input_that_does_not_fit_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        validate(get_tool("activation_patching"), {"template": "ioi", **changed})
