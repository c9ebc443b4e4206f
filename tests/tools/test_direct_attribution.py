"""Direct attributions add up to what they are of, and the logit lens ends where the model does."""

import pytest
import torch

from store.ledger import Ledger
from tests.tools.calling import call, refusal
from tools.workbench.components import decompose, spread, weights
from tools.workbench.context import Context
from tools.workbench.logit_parts import attribute
from tools.workbench.pairs import Batch, Contrast, aligned, batch
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_gain, norm_scale

IOI = {"template": "ioi", "n": 6}


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(subject, Ledger(tmp_path_factory.mktemp("attribution") / "store.duckdb"))


@pytest.fixture(scope="module")
def ioi(subject: Subject) -> Batch:
    return batch(aligned(subject, Contrast(template="ioi", n=6)).same_places(subject).kept)


def test_the_parts_add_up_to_the_logit_difference_and_sources_to_their_head(subject: Subject, ioi: Batch) -> None:
    found = attribute(subject, ioi.clean, ioi.answer, ioi.other)
    torch.testing.assert_close(found.sum, found.measured, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.written.sources.sum(-1), found.written.heads, atol=1e-4, rtol=0)
    labels, values = found.named()
    torch.testing.assert_close(values.sum(1), found.measured, atol=1e-3, rtol=0)
    assert len(labels) == values.shape[1] == 2 + 30 * 11
    top = dict(zip(labels, values.mean(0).tolist(), strict=True))
    assert top["L23H0"] > 0.5, "the name mover"
    assert top["L23H3"] > 1, "suppresses the subject"


def test_without_the_norms_gain_the_parts_do_not_add_up(subject: Subject, ioi: Batch) -> None:
    columns = subject.model.unembed.W_U.double()
    plain = (columns[:, ioi.answer] - columns[:, ioi.other]).T
    last: list[torch.Tensor] = []
    written, logits = decompose(
        subject, ioi.clean, plain, also=[("blocks.29.hook_resid_post", lambda value: last.append(value[:, -1]))]
    )
    total = written.total / norm_scale(subject, last[0])
    rows = torch.arange(len(ioi.clean))
    measured = logits[rows, -1, ioi.answer] - logits[rows, -1, ioi.other]
    assert (total - measured).abs().max() > 0.5
    assert norm_gain(subject).std() > 0.1


def test_key_heads_are_shared_by_consecutive_query_heads(subject: Subject, ioi: Batch) -> None:
    """The repeat order: with 0, 1, 2, 0, 1, 2 in place of 0, 0, 0, 1, 1, 1 the sources miss their heads."""
    own = weights(subject, 18)
    assert own.v.shape == (9, 576, 64)
    assert torch.equal(own.v[0], own.v[2])
    assert not torch.equal(own.v[2], own.v[3])
    three = torch.arange(3.0)
    assert spread(subject, three).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    caught: dict[str, torch.Tensor] = {}
    looks = [(f"blocks.18.attn.hook_{name}", lambda x, n=name: caught.update({n: x})) for name in ("v", "pattern", "z")]
    subject.logits(ioi.clean, also=looks)
    right, wrong = spread(subject, caught["v"], 2), caught["v"].repeat(1, 1, 3, 1)
    mixed = [torch.einsum("bhqk,bkhe->bqhe", caught["pattern"], v) for v in (right, wrong)]
    torch.testing.assert_close(mixed[0], caught["z"], atol=1e-4, rtol=1e-4)
    assert (mixed[1] - caught["z"]).abs().max() > 0.1


def test_direct_logit_attribution_of_ioi(context: Context, ioi: Batch) -> None:
    output = call("direct_logit_attribution", context, **IOI)
    assert abs(sum(each["value"] for each in output["kinds"]) - output["logit_difference"]) < 1e-3
    assert output["controls"]["off"] < 1e-3
    assert output["controls"]["corrupted"] < 0 < output["logit_difference"]
    heads = output["heads"]
    assert (len(heads["rows"]), len(heads["columns"])) == (30, 9)
    sources = output["sources"]
    mover = sources["values"][sources["rows"].index("L23H0")]
    assert "IO" in sources["columns"][mover.index(max(mover))]
    latents = output["latents"]
    assert latents["together"] + latents["bias"] + latents["error"] == pytest.approx(latents["whole"], abs=1e-3)
    found = attribute(context.subject, ioi.clean, ioi.answer, ioi.other)
    below, _ = decompose(context.subject, ioi.clean, found.direction, layers=15)
    assert latents["whole"] == pytest.approx(float(below.total.mean()), abs=1e-3), "what the parts below add"
    assert output["controls"]["exchanged_answers"] < output["top"][0]["value"] / 2


def test_the_subject_and_the_relation_both_add_to_the_country(subject: Subject) -> None:
    """Summing up the facts (2402.07321): swapping the subject takes what its tokens add and leaves what the relation's
    do."""
    (italy,) = subject.tokenize([" Italy"])[0]
    added = []
    for name in ("The Colosseum", "The Pyramid of Giza"):
        tokens = subject.to_tokens(f"{name} is in the country of")
        found = attribute(subject, tokens, torch.tensor([italy]))
        torch.testing.assert_close(found.sum, found.measured, atol=1e-3, rtol=0)
        by_token = found.written.sources[0].sum((0, 1))
        end = len(subject.to_tokens(name)[0])
        added.append((float(by_token[1:end].sum()), float(by_token[end:].sum())))
    (of_colosseum, relation), (of_pyramid, same) = added
    assert of_colosseum > 1
    assert relation > 1
    assert same > 1
    assert of_pyramid < of_colosseum / 2
    (egypt,) = subject.tokenize([" Egypt"])[0]
    rest = attribute(subject, tokens, torch.tensor([italy]), torch.tensor([egypt])).written.sources[0].sum((0, 1))
    assert float(rest[1:end].sum()) < -3 < -1 < float(rest[end:].sum())  # it is the subject that turns the answer over


def test_the_logit_lens_ends_where_the_model_does(context: Context) -> None:
    subject = context.subject
    text = "The capital of France is the city of"
    output = call("logit_lens", context, text=text)
    logits = subject.logits(subject.to_tokens(text))[0, -1]
    layers = output["layers"]
    assert output["word"] == subject.token_strings([int(logits.argmax())])[0]
    assert len(layers) == 31
    assert layers[-1]["log_probability"] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-3)
    assert layers[-1]["rank"] == 1
    assert layers[-1]["kl"] < 1e-4
    assert layers[0]["rank"] > 100
    assert layers[0]["kl"] > 3
    assert output["map"]["rows"][0] == "embedding"
    assert len(output["map"]["columns"]) == 9
    assert layers[-1]["baseline"] < layers[-1]["log_probability"] - 3
    other = call("logit_lens", context, text=text, word=" banana")
    assert other["layers"][-1]["rank"] > 100
    assert "one token" in refusal("logit_lens", context, text=text, word=" antidisestablishment")
