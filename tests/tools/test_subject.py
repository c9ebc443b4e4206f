"""The real subject: equal to transformers, stops where it must, and masks its sinks."""

import pytest
import torch

from store.errors import UserError
from tools.dictionaries.load import check, explained_variance, load_subject
from tools.workbench.subject import Subject

TEXT = "The committee met in Paris on Tuesday, and nobody could agree on the minutes of the last meeting."


def test_residual_equals_transformers_hidden_state(subject: Subject) -> None:
    tokens = subject.to_tokens(TEXT)
    with torch.no_grad():
        hidden = subject.model.original_model(tokens, output_hidden_states=True).hidden_states[15]
    assert torch.allclose(subject.residual(tokens), hidden, atol=1e-3)


def test_residual_at_any_hook_point(subject: Subject) -> None:
    tokens = subject.to_tokens(TEXT)
    after = Subject("m", subject.model, "blocks.14.hook_resid_post", None)
    assert torch.equal(after.residual(tokens), subject.residual(tokens))


def test_an_edit_that_changes_nothing_changes_no_logit(subject: Subject) -> None:
    tokens = subject.to_tokens(TEXT)
    same, other = ([(subject.hook, function)] for function in (lambda x: x, lambda x: x + 5))
    assert torch.equal(subject.logits(tokens, also=same), subject.logits(tokens))
    assert not torch.allclose(subject.logits(tokens, also=other), subject.logits(tokens), atol=0.1)


def test_splicing_reconstruction_and_error_changes_no_logit(subject: Subject) -> None:
    tokens = subject.to_tokens(TEXT)

    def splice(x: torch.Tensor) -> torch.Tensor:
        reconstruction = subject.dictionary.decode(subject.dictionary.encode(x))
        return reconstruction + (x - reconstruction)

    assert torch.allclose(subject.logits(tokens, also=[(subject.hook, splice)]), subject.logits(tokens), atol=1e-2)


def test_position_0_is_a_sink_fifty_times_the_median(subject: Subject) -> None:
    residual = subject.calibration
    norms = residual.norm(dim=-1)
    assert norms[:, 0].min() > 50 * norms.median()
    assert subject.sinks(residual)[:, 0].all()
    assert subject.sinks(residual)[:, 1:].float().mean() < 0.01


def test_a_sink_away_from_position_0_is_masked_too(subject: Subject) -> None:
    residual = subject.calibration.clone()
    residual[2, 77] *= 200
    mask = subject.sinks(residual)
    assert mask[2, 77]
    assert not mask[2, 76]


def test_the_check_reads_no_sink(subject: Subject) -> None:
    """Eight sinks in 2,048 tokens carry nearly all the variance, so a figure that read them would be about them."""
    residual = subject.calibration
    rows, kept = residual.flatten(0, 1), residual[~subject.sinks(residual)]
    assert (rows - rows.mean(0)).pow(2).sum() > 20 * (kept - kept.mean(0)).pow(2).sum()
    figures = [explained_variance(x, subject.dictionary.decode(subject.dictionary.encode(x))) for x in (rows, kept)]
    found, _ = check(subject)
    assert found == pytest.approx(figures[1], abs=1e-6)
    assert abs(figures[0] - figures[1]) > 0.05
    assert found > 0.8


def test_activations_are_zero_on_sinks(subject: Subject) -> None:
    activations = subject.activations(subject.to_tokens(TEXT))
    assert activations[:, 0].abs().max() == 0
    assert (activations[:, 1:] > 0).any(-1).all()


def test_latents_out_of_range_are_refused(subject: Subject) -> None:
    assert str(subject.latent(7)) == f"smollm2-135m-instruct/{subject.dictionary.name}/7"
    for index in (-1, subject.dictionary.n_latents):
        with pytest.raises(UserError, match=f"from 0 to {subject.dictionary.n_latents - 1}"):
            subject.latent(index)


def test_unknown_models_and_dtypes_are_refused(tmp_path: object) -> None:
    with pytest.raises(UserError, match="no dtype 'float8'"):
        load_subject(dtype="float8")
    with pytest.raises(UserError, match="Could not load the model"):
        load_subject(model=str(tmp_path), dictionary=None, hook="blocks.1.hook_resid_pre")
