"""What a latent is given is the sum of what the parts below wrote, for each place that a dictionary may read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig, Transcoder, TranscoderConfig

from store.ledger import Ledger
from tests.tools.calling import call, refusal
from tools.workbench.causes import causes
from tools.workbench.context import Context
from tools.workbench.dictionary import Dictionary
from tools.workbench.subject import Subject

TEXT = "When Mary and John went to the store, John gave a drink to"


def made(subject: Subject, hook: str, transcoder: bool = False) -> Subject:
    """The subject with a random dictionary of 32 latents on another hook point."""
    torch.manual_seed(0)
    sizes: Any = {"d_in": 576, "d_sae": 32, "dtype": "float32", "device": "cpu"}
    sae: Any = (
        Transcoder(TranscoderConfig(**sizes, d_out=576, apply_b_dec_to_input=False))
        if transcoder
        else StandardSAE(StandardSAEConfig(**sizes, apply_b_dec_to_input=True))
    )
    sae.requires_grad_(False)
    for bias in (sae.b_enc, sae.b_dec):
        bias.copy_(torch.randn(bias.shape))
    own = Subject(subject.name, subject.model, hook, Dictionary("made", sae, hook))
    own.typical_norm = 1e3  # given, so that no pass is spent on it: BOS alone is a sink here
    return own


@pytest.mark.parametrize(
    ("hook", "transcoder"),
    [
        ("blocks.18.attn.hook_z", False),
        ("blocks.4.hook_resid_mid", False),
        ("blocks.4.hook_resid_post", False),
        ("blocks.9.ln2.hook_out", True),
    ],
)
def test_the_parts_add_up(subject: Subject, hook: str, transcoder: bool) -> None:
    own = made(subject, hook, transcoder)
    tokens = own.to_tokens(TEXT)
    for latent, position in ((3, 12), (7, 4)):
        found = causes(own, tokens, position, latent)
        assert found.off < 1e-4 * max(1, abs(found.given))
        assert abs(found.constant) > 1e-3
        written = found.written
        torch.testing.assert_close(written.sources.sum(-1), written.heads, atol=1e-4, rtol=1e-5)
        assert not written.sources[..., position + 1 :].any(), "nothing is read from later tokens"


def test_key_heads_in_another_order_miss_the_sum(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.workbench import components

    own = made(subject, "blocks.18.attn.hook_z")
    monkeypatch.setattr(components, "spread", lambda subject, v, axis=0: v.repeat(1, 1, 3, 1))
    written = causes(own, own.to_tokens(TEXT), 12, 3).written
    assert (written.sources.sum(-1) - written.heads).abs().max() > 0.01


def test_latent_head_attribution_of_the_default_dictionary(subject: Subject, tmp_path: Path) -> None:
    context = Context(subject, Ledger(tmp_path / "store.duckdb"))
    latent = int(subject.activations(subject.to_tokens(TEXT))[0, -1].argmax())
    output = call("latent_head_attribution", context, latent=latent, text=TEXT, position=14)
    assert sum(each["value"] for each in output["kinds"]) == pytest.approx(output["given"], rel=1e-4)
    assert len(output["heads"]["rows"]) == 15
    assert output["token"] == " to"
    assert output["controls"]["off"] < 1e-3 * output["given"]
    assert output["written_by"] == []
    missing = refusal("latent_head_attribution", context, latent=latent, text=TEXT, position=99)
    assert "the text has 15 tokens" in missing
    assert "is no transcoder" in refusal("transcoder_edges", context, latent=latent, text=TEXT)


def test_latents_of_heads_outputs(subject: Subject, tmp_path: Path) -> None:
    own = made(subject, "blocks.18.attn.hook_z")
    context = Context(own, Ledger(tmp_path / "store.duckdb"))
    output = call("latent_head_attribution", context, latent=5, text=TEXT, position=10)
    assert output["heads"]["rows"] == ["L18"]
    assert sum(each["value"] for each in output["written_by"]) == pytest.approx(1, abs=1e-5)
    assert sum(output["heads"]["values"][0]) + output["constant"] == pytest.approx(output["given"], abs=1e-4)
    for name, input in (
        ("activation_patching", {"template": "ioi", "n": 2, "site": "latent"}),
        ("ablate", {"targets": [{"latent": 5}], "prompts": [TEXT]}),
    ):
        assert "not edited or patched" in refusal(name, context, **input)


def test_transcoder_edges(subject: Subject, tmp_path: Path) -> None:
    own = made(subject, "blocks.9.ln2.hook_out", transcoder=True)
    context = Context(own, Ledger(tmp_path / "store.duckdb"))
    output = call("transcoder_edges", context, latent=2, text=TEXT, position=11)
    assert sum(each["value"] for each in output["kinds"]) == pytest.approx(output["given"], abs=1e-4)
    assert output["heads"]["rows"][-1] == "L9"
    assert len(output["embeddings"]) == 10
    rows = own.model.embed.W_E.detach()
    encoder = own.dictionary.sae.W_enc[:, 2] * own.model.blocks[9].ln2.weight
    assert output["embeddings"][0]["value"] == pytest.approx(float((rows @ encoder).max()), rel=1e-3)
