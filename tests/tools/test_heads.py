"""Heads by their weights and by what they attend to: known ones are found, and none where none is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM

from store.ledger import Ledger
from tests.tools.calling import call, refusal
from tools.workbench.circuits import SERIES, Factors, composition, reads, succession, writes
from tools.workbench.context import Context
from tools.workbench.detectors import on_names
from tools.workbench.pairs import Contrast, aligned, batch
from tools.workbench.subject import Subject


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("heads") / "store.duckdb"))


def test_composition_of_matrices_written_by_hand() -> None:
    """A reader of exactly the plane that is written has 1 / sqrt(2) (two equal directions), of another plane 0."""
    e = torch.eye(16)
    writer = Factors(e[:, 2:4], e[4:6])
    assert composition(writer, Factors(e[:, 4:6], e[6:8])) == pytest.approx(2**-0.5)
    assert composition(writer, Factors(e[:, 4:5], e[6:7])) == pytest.approx(2**-0.5)
    assert composition(writer, Factors(e[:, 8:10], e[6:8])) == 0


def test_composition_equals_the_whole_matrices(subject: Subject) -> None:
    for way in ("q", "k", "v"):
        a, b = writes(subject, 16, 0), reads(subject, 18, 6, way)
        first, second = a.left.double() @ a.right.double(), b.left.double() @ b.right.double()
        whole = (first @ second).norm() / (first.norm() * second.norm())
        assert composition(a, b) == pytest.approx(float(whole), rel=1e-4)


def test_induction_heads_read_the_previous_token_head_by_their_keys(context: Context) -> None:
    for layer, head in ((18, 6), (17, 3)):
        output = call("composition_scores", context, layer=layer, head=head)
        assert output["top"][0]["label"] == "k from L16H0"
        assert output["top"][0]["value"] > 3 * output["controls"]["highest"]


def test_composition_scores_stand_beside_a_random_rotation(context: Context) -> None:
    output = call("composition_scores", context, layer=3, head=0)
    controls = output["controls"]
    assert controls["expected"] == pytest.approx(576**-0.5)
    assert controls["mean"] == pytest.approx(controls["expected"], rel=0.1)
    assert output["k"]["rows"] == ["L0", "L1", "L2"]
    assert output["top"][0]["value"] > controls["highest"]
    later = call("composition_scores", context, layer=28, head=0, role="writer")
    assert later["q"]["rows"] == ["L29"]
    assert "No head comes before" in refusal("composition_scores", context, layer=0, head=0)
    assert "heads 0 to 8" in refusal("composition_scores", context, layer=3, head=9)


def test_the_most_copying_and_the_most_suppressing_heads(context: Context) -> None:
    """L23H0 moves names, L24H4 suppresses copies: places 1 and among the last three of 270 heads."""
    mover = call("ov_circuit", context, layer=23, head=0)
    suppressor = call("ov_circuit", context, layer=24, head=4, words=[" Mary", " John"])
    assert mover["place"] <= 3
    assert mover["eigenvalues"] > 0.3 > -0.3 > suppressor["eigenvalues"]
    assert suppressor["place"] >= 268
    assert suppressor["controls"]["random_weights"] == pytest.approx(0.5, abs=0.1)
    assert [each["label"] for each in suppressor["readings"]] == [" Mary", " John"]
    assert all(each["own_rank"] > 45_000 for each in suppressor["readings"])
    assert "suppresses" in suppressor["verdict"]
    (_, of_john), (of_mary, _) = suppressor["effects"]["values"]
    assert (
        max(suppressor["effects"]["values"][0][0], suppressor["effects"]["values"][1][1]) < -2 < min(of_john, of_mary)
    )
    assert all((context.ledger.store.path.parent / path).is_file() for path in suppressor["pictures"])
    assert "layers 0 to 29" in refusal("ov_circuit", context, layer=30, head=0)


@pytest.fixture(scope="module")
def profile(context: Context, rendered: None) -> dict[str, Any]:
    return call("head_profile", context, heads=["L18H6", "17.3", "17.4", "16.0", "24.4", "23.0", "10.2"])


def test_known_heads_have_their_kinds(profile: dict[str, Any]) -> None:
    kinds = {each["label"]: each["kind"] for each in profile["heads"]}
    assert kinds == {
        "L18H6": "induction",
        "L17H3": "induction",
        "L17H4": "induction",
        "L16H0": "previous token",
        "L24H4": "copy suppression",
        "L23H0": "name mover",
        "L10H2": "none",
    }
    scores = {each["label"]: {s["label"]: s["value"] for s in each["scores"]} for each in profile["heads"]}
    assert scores["L18H6"]["induction"] == pytest.approx(0.9, abs=0.05)
    assert scores["L16H0"]["previous token"] == pytest.approx(0.9, abs=0.05)
    for kind in profile["kinds"][:5]:
        assert kind["baseline"] < kind["value"] / 3


def test_the_copy_suppressor_lowers_the_name_that_it_attends_to(context: Context) -> None:
    subject = context.subject
    own = batch(aligned(subject, Contrast(template="ioi", n=4)).same_places(subject).kept)
    names = on_names(subject, own, context.rng("test"))
    for head, raises in (((24, 4), False), ((23, 0), True)):
        seen, added = names["IO"].attention, float(names["IO"].added[head])
        assert seen.paid[head] > 0.25
        assert seen.paid[head] > 3 * seen.baseline[head]
        assert (added > 1) if raises else (added < -0.4)


def test_attention_is_drawn(profile: dict[str, Any], context: Context) -> None:
    """The kinds beside chance, and the attention of the first four heads."""
    assert len(profile["pictures"]) == 2 * (1 + 4)
    assert all((context.ledger.store.path.parent / path).stat().st_size > 1000 for path in profile["pictures"])


def test_no_head_succeeds(profile: dict[str, Any]) -> None:
    (kind,) = (each for each in profile["kinds"] if each["label"] == "succession")
    assert kind["passing"] == 0
    assert kind["value"] < 0.4
    assert "succession: none" in profile["verdict"]


def test_induction_heads_are_worth_five_nats_and_others_none(profile: dict[str, Any]) -> None:
    ablation = profile["ablation"]
    assert ablation["without"] - ablation["loss"] > 5
    assert ablation["random"] - ablation["loss"] < 1
    assert len(ablation["heads"]) == 8


def test_what_a_copy_suppressor_does_is_kept_better_than_with_other_tokens(profile: dict[str, Any]) -> None:
    (own,) = (each for each in profile["copy_suppression"] if each["label"] == "L24H4")
    assert own["by_ov"] > 0.45
    assert own["by_ov"] > 10 * abs(own["permuted"])
    assert own["by_ov_and_qk"] < 0.1  # what it attends to is not what the logit lens foresees there


def test_heads_that_do_not_exist_are_refused(context: Context) -> None:
    assert "heads 0 to 8" in refusal("head_profile", context, heads=["3.9"])
    assert "layers 0 to 29" in refusal("head_profile", context, heads=["L31H0"])


def test_a_head_that_counts_up_is_found(subject: Subject, tmp_path: Path) -> None:
    """One layer: head 0 reads the member of a series and writes the next one, head 1 writes what it reads."""
    words = [f" {word}" for series in SERIES for word in series]
    ids = [tokens[0] for tokens in subject.tokenize(words) if len(tokens) == 1]
    width = len(ids) + len(ids) % 2
    config = LlamaConfig(
        vocab_size=len(subject.tokenizer),
        hidden_size=width,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        head_dim=width,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(tmp_path)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.fill_(1.0 if "norm" in name else 0.0)
    eye = torch.eye(width)
    for weight in (model.get_input_embeddings().weight, model.lm_head.weight):
        weight[ids] = eye[: len(ids)]
    attention = model.model.layers[0].self_attn
    attention.v_proj.weight.copy_(torch.cat([eye, eye]))
    attention.o_proj.weight.copy_(torch.cat([eye.roll(1, 0), eye], dim=1))
    bridge = TransformerBridge.boot_transformers(
        str(tmp_path), hf_model=model, tokenizer=subject.tokenizer, dtype=torch.float32
    )
    toy = Subject("successor", bridge, "blocks.0.hook_resid_pre", None)
    assert succession(toy)[0].tolist() == [1, 0]
    assert succession(toy, 0)[0].tolist() == [0, 1]


def test_a_model_without_separate_heads_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(context.subject.points, "blocks.3.attn.hook_z")
    for name in ("ov_circuit", "composition_scores"):
        assert "no separate attention heads" in refusal(name, context, layer=3, head=0)
    assert "no separate attention heads" in refusal("direct_logit_attribution", context, template="ioi", n=2)
