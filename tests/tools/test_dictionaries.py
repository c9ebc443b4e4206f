"""Dictionary formats against their formulas, checks on arrival, evaluation against known truth, resumable training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardSAE,
    StandardSAEConfig,
)
from sae_lens.saes.sae import TrainingSAE, TrainStepInput, TrainStepOutput
from safetensors.torch import load_file, save_file

from store.errors import UserError
from tools.dictionaries import train as train_module
from tools.dictionaries.evaluate import Moments, evaluate, splice
from tools.dictionaries.load import check, load_dictionary, load_subject
from tools.dictionaries.train import TrainingPlan, train
from tools.workbench.batches import cut_windows, take_tokens
from tools.workbench.corpus import Corpus, Document
from tools.workbench.dictionary import Dictionary
from tools.workbench.subject import Subject

CPU = torch.device("cpu")
D, F = 12, 40


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Python's own help texts in pieces of 600 characters: about 150,000 tokens."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[key] for key in sorted(topics))
    pieces = tuple(Document(text[i : i + 600], "topics") for i in range(0, len(text), 600))
    return Corpus("topics", pieces, "test")


def with_another(subject: Subject, dictionary: Dictionary) -> Subject:
    """The subject with another dictionary at its hook point, the same calibration text already read there."""
    other = Subject("m", subject.model, subject.hook, dictionary)
    other.calibration = subject.calibration
    return other


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(F, D, generator=generator)
    return {
        "W_enc": torch.randn(D, F, generator=generator),
        "b_enc": torch.randn(F, generator=generator),
        "W_dec": directions / directions.norm(dim=1, keepdim=True),
        "b_dec": torch.randn(D, generator=generator),
        "threshold": torch.rand(F, generator=generator) + 0.5,
    }


def test_gemma_scope_files_are_jumprelu_without_input_bias(tmp_path: Path) -> None:
    folder = tmp_path / "layer_12" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    w = weights()
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in w.items()})
    dictionary = load_dictionary(str(folder), CPU, torch.float32)
    x = torch.randn(50, D)
    pre = x @ w["W_enc"] + w["b_enc"]
    expected = torch.where(pre > w["threshold"], pre, 0.0)
    assert torch.allclose(dictionary.encode(x), expected, atol=1e-5)
    assert torch.allclose(dictionary.decode(expected), expected @ w["W_dec"] + w["b_dec"], atol=1e-5)
    assert (dictionary.hook, dictionary.stated_l0) == ("blocks.12.hook_resid_post", 82)


def test_folding_keeps_the_active_set_and_the_reconstruction(tmp_path: Path) -> None:
    w = weights()
    w["W_dec"] = w["W_dec"] * torch.linspace(0.2, 5, F)[:, None]
    np.savez(tmp_path / "params.npz", **{k: v.numpy() for k, v in w.items()})
    folded = load_dictionary(str(tmp_path), CPU, torch.float32, hook="blocks.1.hook_resid_post")
    x = torch.randn(200, D)
    pre = x @ w["W_enc"] + w["b_enc"]
    before = torch.where(pre > w["threshold"], pre, 0.0)
    after = folded.encode(x)
    assert torch.equal(after > 0, before > 0)
    assert torch.allclose(folded.decode(after), before @ w["W_dec"] + w["b_dec"], atol=1e-4)
    assert torch.allclose(folded.decoder.norm(dim=1), torch.ones(F), atol=1e-5)


def test_sparsify_folders_are_topk_of_the_centred_input(tmp_path: Path) -> None:
    folder = tmp_path / "layers.7"
    folder.mkdir()
    w, k = weights(1), 5
    files = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "W_dec": w["W_dec"],
        "b_dec": w["b_dec"],
    }
    save_file(files, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "num_latents": F, "k": k, "normalize_decoder": True}))
    dictionary = load_dictionary(str(folder), CPU, torch.float32)
    x = torch.randn(50, D)
    pre = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    top = pre.topk(k)
    expected = torch.zeros_like(pre).scatter_(1, top.indices, top.values)
    assert torch.allclose(dictionary.encode(x), expected, atol=1e-5)
    assert (dictionary.hook, dictionary.stated_l0) == ("blocks.7.hook_resid_post", k)


@pytest.mark.parametrize(("name", "hook", "k"), [("l15-4608", 15, 64), ("l22-2304", 22, 32)])
def test_shipped_dictionaries_load_by_name(name: str, hook: int, k: int) -> None:
    found = load_dictionary(name, CPU, torch.float32)
    assert (found.name, found.hook, found.stated_l0) == (name, f"blocks.{hook}.hook_resid_pre", k)
    assert found.n_latents == int(name.partition("-")[2])


def test_unknown_dictionaries_are_refused(tmp_path: Path) -> None:
    for name, says in (
        ("nothing", "There is no dictionary"),
        (str(tmp_path), "holds no dictionary"),
        ("no:such", "Could not load"),
    ):
        with pytest.raises(UserError, match=says):
            load_dictionary(name, CPU, torch.float32)


@pytest.mark.parametrize("file", ["params.npz", "sae.safetensors", "sae_weights.safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"not what it should be")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard", "d_in": D, "d_sae": F, "k": 4}))
    with pytest.raises(UserError, match="Could not load the dictionary"):
        load_dictionary(str(tmp_path), CPU, torch.float32, hook="blocks.1.hook_resid_post")


def test_folders_of_one_name_are_two_dictionaries(tmp_path: Path) -> None:
    names = set()
    for layer in (12, 13):
        folder = tmp_path / f"layer_{layer}" / "average_l0_82"
        folder.mkdir(parents=True)
        np.savez(folder / "params.npz", **{k: v.numpy() for k, v in weights(layer).items()})
        names.add(load_dictionary(str(folder), CPU, torch.float32).name)
    assert len(names) == 2
    assert all(name.startswith("average_l0_82-") for name in names)


def test_unusable_devices_are_refused() -> None:
    for device in ("foo", "cuda:99"):
        with pytest.raises(UserError, match="cannot be used"):
            load_subject(device=device)


def test_impossible_plans_are_refused() -> None:
    for plan in ({"tokens": 100}, {"n_latents": 8, "k": 9}, {"architecture": "matryoshka", "n_latents": 8, "k": 2}):
        with pytest.raises(UserError, match=r"give|ask"):
            TrainingPlan(**plan)  # type: ignore[arg-type]


def test_a_dictionary_of_another_width_is_refused(subject: Subject, tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", **{k: v.numpy() for k, v in weights().items()})
    narrow = load_dictionary(str(tmp_path), CPU, torch.float32, hook=subject.hook)
    with pytest.raises(UserError, match="reads 12 numbers but"):
        check(with_another(subject, narrow))


def test_a_dictionary_of_another_layer_is_refused(subject: Subject) -> None:
    other = Subject("m", subject.model, "blocks.28.hook_resid_pre", subject.dictionary)
    other.calibration_tokens = subject.calibration_tokens[:2]
    with pytest.raises(UserError, match="probably"):
        check(other)


def test_a_dictionary_whose_l0_is_off_is_refused(subject: Subject) -> None:
    shipped = subject.dictionary
    misstated = Dictionary(shipped.name, shipped.sae, shipped.hook, stated_l0=10 * (shipped.stated_l0 or 0))
    with pytest.raises(UserError, match="active latents a token"):
        check(with_another(subject, misstated))


def basis_dictionary(d: int, hook: str, scale: float) -> Dictionary:
    """2 d latents, +e_i and -e_i: reconstructs anything (scale 1) or nothing (scale 0)."""
    sae = StandardSAE(StandardSAEConfig(d_in=d, d_sae=2 * d, apply_b_dec_to_input=False))
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    sae.load_state_dict(
        {"W_enc": both.T.clone(), "b_enc": torch.zeros(2 * d), "W_dec": scale * both, "b_dec": torch.zeros(d)}
    )
    return Dictionary("basis", sae, hook)


def test_evaluation_of_a_lossless_and_of_an_empty_dictionary(
    subject: Subject, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.dictionaries.evaluate.LOSS_TOKENS", 30)
    short = Corpus("short", tuple(Document(d.text[:80], d.source) for d in corpus.documents), "test")
    lossless = evaluate(with_another(subject, basis_dictionary(576, subject.hook, 1.0)), short, 150)
    assert lossless.ev == pytest.approx(1.0, abs=1e-6)
    assert lossless.loss_recovered.against_zero == pytest.approx(1.0, abs=1e-4)
    assert lossless.loss_recovered.against_mean == pytest.approx(1.0, abs=1e-4)
    empty = evaluate(with_another(subject, basis_dictionary(576, subject.hook, 0.0)), short, 150)
    assert empty.loss_recovered.against_zero == pytest.approx(0.0, abs=1e-6)
    assert empty.ev < 0


def test_the_shipped_dictionary_beats_its_baselines(
    subject: Subject, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.dictionaries.evaluate.LOSS_TOKENS", 150)
    found = evaluate(subject, corpus, 1500)
    read = take_tokens(cut_windows(subject, ((i, d) for i, d in enumerate(corpus.documents) if d.held_out)), 1500)
    assert found.tokens == sum(len(window.tokens) for window in read) - len(read), "every BOS is a sink"
    assert found.ev > found.ev_pca > found.ev_random
    assert found.loss_recovered.against_mean > found.loss_recovered_random.against_mean
    assert found.splice_error < 1e-4
    assert abs(found.l0 - found.k) / found.k < 0.1, "BatchTopK's threshold must give the L0 it was trained for"
    assert sum(found.density_histogram) == round((1 - found.dead_share) * subject.dictionary.n_latents)
    lone, batch = torch.randn(1, 576) * 10, torch.randn(40, 576) * 10
    together = subject.dictionary.encode(torch.cat([lone, batch]))[0]
    assert torch.allclose(together, subject.dictionary.encode(lone)[0], atol=1e-4), (
        "inference must not depend on the batch"
    )


def test_without_its_threshold_the_shipped_dictionary_is_dense(subject: Subject) -> None:
    """BatchTopK is only sparse at inference through the threshold it is saved with (2412.06410)."""
    residual = subject.calibration
    rows = residual[~subject.sinks(residual)]
    kept = float((subject.dictionary.encode(rows) > 0).sum(-1).float().mean())
    sae = subject.dictionary.sae
    relu = ((rows - sae.b_dec) @ sae.W_enc + sae.b_enc > 0).sum(-1).float().mean()
    assert float(relu) > 5 * kept


def matryoshka(widths: list[int]) -> MatryoshkaBatchTopKTrainingSAE:
    torch.manual_seed(0)
    config = MatryoshkaBatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=4, matryoshka_widths=widths)
    return MatryoshkaBatchTopKTrainingSAE(config)


def losses(sae: TrainingSAE, x: torch.Tensor) -> TrainStepOutput:
    step = TrainStepInput(x, {}, dead_neuron_mask=None, n_training_steps=0, is_logging_step=False)
    return sae.training_forward_pass(step)


def test_a_matryoshka_prefix_teaches_only_its_own_latents() -> None:
    """The inner loss of width m has no gradient in decoder rows from m on (2503.17547, section 3)."""
    sae, x = matryoshka([10, F]), torch.randn(64, D)
    losses(sae, x).losses["inner_mse_loss_10"].backward()
    assert sae.W_dec.grad is not None
    assert sae.W_dec.grad[:10].abs().max() > 0
    assert sae.W_dec.grad[10:].abs().max() == 0


def test_a_matryoshka_of_one_width_is_a_batchtopk_sae() -> None:
    nested, x = matryoshka([F]), torch.randn(64, D)
    plain = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=4))
    plain.load_state_dict(nested.state_dict())
    assert torch.equal(losses(nested, x).loss, losses(plain, x).loss)


def test_moments_equal_numpy() -> None:
    rows = torch.randn(300, 5)
    moments = Moments(5)
    moments.add(rows[:100])
    moments.add(rows[100:])
    assert np.allclose(moments.covariance / 300, np.cov(rows.numpy().T, bias=True), atol=1e-6)
    assert moments.total_variance == pytest.approx(float((rows - rows.mean(0)).pow(2).sum()), rel=1e-6)


@pytest.mark.parametrize("architecture", ["batchtopk", pytest.param("matryoshka", marks=pytest.mark.slow)])
def test_training_resumes_to_the_same_weights(
    subject: Subject, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    monkeypatch.setattr(train_module, "BLOCK_TOKENS", 2048)
    bare = Subject("m", subject.model, "blocks.3.hook_resid_pre", None)
    plan = TrainingPlan(architecture=architecture, n_latents=64, k=8, tokens=6144, batch=128)  # type: ignore[arg-type]

    def stop(done: int, total: int, note: str) -> None:
        if done > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(bare, corpus, plan, tmp_path / "stopped", stop)
    assert (tmp_path / "stopped" / "checkpoint").exists()
    for name in ("stopped", "whole"):
        train(bare, corpus, plan, tmp_path / name, lambda done, total, note: None)
    a, b = (load_file(tmp_path / name / "sae_weights.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(a[key], b[key]) for key in b)
    trained = load_dictionary(str(tmp_path / "whole"), CPU, torch.float32)
    assert (trained.n_latents, trained.hook, trained.stated_l0) == (64, "blocks.3.hook_resid_pre", 8)
    assert "jumprelu" in trained.sae.cfg.architecture()
    with pytest.raises(UserError, match="holds another training"):
        train(bare, corpus, TrainingPlan(n_latents=32, k=4), tmp_path / "whole", lambda done, total, note: None)


def test_a_short_training_revives_dead_latents_too(subject: Subject) -> None:
    """The window without firing is 250 steps, or a tenth of all."""
    windows = [
        train_module._trainer_config(subject, TrainingPlan(tokens=steps * 2048)).dead_feature_window
        for steps in (1, 248, 2560, 9000)
    ]
    assert windows == [1, 24, 250, 250]


def test_sinks_are_not_spliced(subject: Subject) -> None:
    value = torch.randn(1, 3, 4)
    look, put = splice(subject, lambda read, x: torch.zeros_like(x), torch.tensor([[False, True, False]]))
    look[1](value)
    spliced = put[1](value)
    assert spliced is not None
    assert torch.equal(spliced[:, [0, 2]], value[:, [0, 2]])
    assert not spliced[:, 1].any()


def test_training_reads_no_sink(subject: Subject, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "BLOCK_TOKENS", 1024)
    block = next(train_module._blocks(subject, corpus, 0))
    assert block.norm(dim=1).max() < 50 * subject.typical_norm


def test_training_refuses_a_corpus_that_is_too_small(subject: Subject, tmp_path: Path) -> None:
    bare = Subject("m", subject.model, "blocks.1.hook_resid_pre", None)
    small = Corpus("small", (Document("a few words of text only", "s"),) * 3, "x")
    with pytest.raises(UserError, match="ended after"):
        train(bare, small, TrainingPlan(n_latents=16, k=4, tokens=10_000), tmp_path, lambda done, total, note: None)
