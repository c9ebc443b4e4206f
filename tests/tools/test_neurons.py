"""Neurons by what they do to the vocabulary: the sign of the skew, entropy and frequency neurons, shared neurons."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from store.errors import UserError
from store.ledger import Ledger
from tests.tools.calling import call, refusal
from tools.workbench.boot import boot
from tools.workbench.context import Context
from tools.workbench.subject import Subject
from tools.workbench.vocabulary import excess_correlation, moments, unembedding


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("neurons") / "store.duckdb"))


def test_the_sign_of_the_skew(subject: Subject) -> None:
    """A neuron that is made to raise three tokens and hardly any other; its opposite lowers them."""
    columns = unembedding(subject).columns
    days = [subject.tokenize([f" {day}"])[0][0] for day in ("Monday", "Tuesday", "Sunday")]
    few = torch.linalg.solve(columns @ columns.T, columns[:, days].sum(1))
    raises, lowers = moments(few @ columns), moments(-few @ columns)
    assert raises.skew > 0.1 > -0.1 > lowers.skew
    assert raises.skew == pytest.approx(-lowers.skew)
    assert raises.kurtosis == pytest.approx(lowers.kurtosis)
    assert raises.kurtosis > 3
    uniform = moments(torch.linspace(-1, 1, 10_001))
    assert (uniform.variance, uniform.skew, uniform.kurtosis) == pytest.approx((1 / 3, 0, 1.8), abs=1e-3)


def test_entropy_and_frequency_neurons(context: Context) -> None:
    output = call("neuron_profile", context, neurons=[830, 1022, 471, 645])
    found = {each["label"]: each for each in output["neurons"]}
    for name in ("L29N830", "L29N1022"):
        assert found[name]["kind"] == "entropy"
        assert found[name]["unread"] > 5 * output["controls"]["unread_by_chance"]
        assert found[name]["norm_share"] > 0.2
    for name in ("L29N471", "L29N645"):
        assert found[name]["kind"] == "token frequency"
        assert abs(found[name]["frequency"]) > 5 * output["controls"]["frequency_median"]
        assert abs(found[name]["norm_share"]) < 0.05
    assert output["controls"]["norm_share"] < 0.05
    assert output["above_five_times_chance"] >= 8
    assert output["hardly_read"][0]["value"] > 0.85


def test_a_neuron_of_an_earlier_layer_may_be_of_no_kind(context: Context) -> None:
    output = call("neuron_profile", context, layer=12, neurons=[3])
    (each,) = output["neurons"]
    assert each["kind"] == "none"
    assert each["norm_share"] is None
    assert "neurons 0 to 1535" in refusal("neuron_profile", context, neurons=[1536])
    assert "layers 0 to 29" in refusal("neuron_profile", context, layer=30)


def test_the_same_neurons_are_shared_and_those_on_other_tokens_are_not(subject: Subject) -> None:
    rng = np.random.default_rng(0)
    own = subject.value_at("blocks.3.mlp.hook_post", subject.calibration_tokens[:2])[:, 1:].flatten(0, 1)[:, :300]
    highest, rotated, which = excess_correlation(own, own, rng)
    assert (highest - rotated).mean() > 0.5
    assert which.tolist() == list(range(300))
    order = torch.from_numpy(rng.permutation(len(own)))
    highest, rotated, _ = excess_correlation(own, own[order], rng)
    assert abs(float((highest - rotated).mean())) < 0.05


def test_another_model_is_compared_and_refused_in_a_sentence(subject: Subject, tmp_path: Path) -> None:
    """A random small Llama against itself, from its folder, and against models that do not fit."""
    config = LlamaConfig(
        vocab_size=len(subject.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        architectures=["LlamaForCausalLM"],
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "toy")
    subject.tokenizer.save_pretrained(tmp_path / "toy")
    bridge = boot("toy", tmp_path / "toy", torch.device("cpu"), torch.float32)
    toy = Subject("toy", bridge, "blocks.0.hook_resid_pre", subject.dictionary)
    context = Context(toy, Ledger(tmp_path / "store.duckdb"))
    output = call("universal_neurons", context, other=str(tmp_path / "toy"), layer=0)
    assert output["correlation"] == pytest.approx(1, abs=1e-4)
    assert output["excess"] > 0.3
    assert abs(output["controls"]["permuted_excess"]) < 0.05
    assert "Could not load the model" in refusal("universal_neurons", context, other=str(tmp_path / "none"), layer=0)


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(self: object, model: str, timeout: float) -> None:
        asked.append(model)
        raise ConnectionError("no such host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)  # would try again and again
    with pytest.raises(UserError, match="the hub does not give it: no such host"):
        boot("nobody/nothing", "nobody/nothing", torch.device("cpu"), torch.float32)
    assert asked == ["nobody/nothing"]
