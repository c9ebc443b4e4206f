"""The tools on the real model and dictionary, against independent computations."""

from pydoc_data.topics import topics

import numpy as np
import pytest
import torch

from store.ledger import Ledger
from tests.tools.calling import output_of
from tests.tools.world import FakeLLM
from tools.labelling.neuron_to_graph import last_activation
from tools.workbench.context import Context
from tools.workbench.corpus import Corpus, Document
from tools.workbench.examples import bounds, half_of, windows_of
from tools.workbench.harvest import harvest
from tools.workbench.subject import Subject
from tools.workbench.texts import mark, pieces
from tools.workbench.unembed import direct_effect

TOKENS = 4096
ODD = "naïve 日本語 text 😀 caf\u0301e — ünïcödé, 한국어"


@pytest.fixture(scope="module")
def context(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A harvest of forty short documents, one of them full of characters that tokens split."""
    folder = tmp_path_factory.mktemp("real")
    texts = [topics[key][:600] for key in sorted(topics)[:39]]
    documents = tuple(Document(text, "topics") for text in [ODD * 4, *texts])
    stored = harvest(subject, Corpus("topics", documents, "topics"), TOKENS, folder / "harvest")
    return Context(subject, Ledger(folder / "store.duckdb"), stored, FakeLLM(reply="x"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def latents(context: Context) -> list[int]:
    """Three latents of very different density, each firing on this harvest a few times at least."""
    count = context.need_harvest().stats().count
    order = [int(index) for index in np.argsort(-count) if count[index] >= 3]
    return [order[5], order[len(order) // 4], order[-1]]


def test_examples_equal_a_direct_recomputation(context: Context, latents: list[int]) -> None:
    subject = context.subject
    for latent in latents:
        output = output_of("top_examples", context, latent=latent, top=3, deciles=3, random=2)
        for example in (*output.top, *output.deciles, *output.random):
            window = context.need_harvest().windows([example.window])[0]
            direct = subject.activations(torch.from_numpy(window.tokens.astype(np.int64))[None])[0, :, latent]
            part = direct[example.start : example.start + len(example.tokens)].numpy()
            np.testing.assert_allclose(example.activations, part, rtol=1e-3, atol=1e-3 * output.max)
            assert example.document == window.document


def test_reading_a_text_alone_equals_the_harvest(context: Context, latents: list[int]) -> None:
    subject, stored = context.subject, context.need_harvest()
    window = next(w for w in stored.windows(range(10)) if w.document and w.start == 0)
    text = subject.tokenizer.decode(window.tokens[1:])
    assert subject.to_tokens(text)[0].tolist() == window.tokens.tolist()
    for latent in latents:
        reading = output_of("activate_on_text", context, latent=latent, texts=[text]).readings[0]
        fired = stored.activations(latent, [window.id])
        dense = np.zeros(len(window.tokens), np.float32)
        dense[fired.position] = fired.activation
        np.testing.assert_allclose(reading.activations, dense[1:], rtol=1e-3, atol=1e-2)


def test_sinks_fire_nothing(context: Context, latents: list[int]) -> None:
    subject = context.subject
    tokens = subject.to_tokens("The cat sat.")
    residual = subject.residual(tokens)
    assert subject.sinks(residual)[0].tolist() == [True, False, False, False, False]
    unmasked = subject.dictionary.encode(residual)[0]
    lit = output_of("latents_on_text", context, text="The cat sat.", n=500).latents
    assert unmasked[0].max() > 5 * max(each.peak for each in lit), "BOS would drown everything, were it not masked"
    assert max(each.peak for each in lit) == pytest.approx(float(unmasked[1:].max()), rel=1e-4)


def test_direct_logit_effect_equals_the_models_own_norm_and_unembedding(context: Context, latents: list[int]) -> None:
    """Moving along d from a residual orthogonal to d changes the norm's scale only by |d|^2, which is known exactly."""
    subject = context.subject
    model = subject.model
    start = model.run_with_cache(subject.to_tokens("The capital of France is"))[1]["blocks.29.hook_resid_post"][0, -1]
    for latent in latents:
        direction = subject.dictionary.decoder[latent].float()
        step = 50 * direction / direction.norm()
        base = start - (start @ direction) / direction.square().sum() * direction
        with torch.no_grad():
            plus, minus = (model.unembed(model.ln_final((base + s * step)[None, None]))[0, 0] for s in (1, -1))
        scale = float((base.square().sum() + step.square().sum()).div(len(base)).sqrt())
        brute = (plus - minus) / 2 * scale / 50 * direction.norm()
        effect = direct_effect(subject, direction)
        torch.testing.assert_close(effect, brute - brute.mean(), rtol=1e-3, atol=1e-4)
        output = output_of("direct_logit_effect", context, latent=latent, n=5)
        best = brute.topk(5).indices.tolist()
        assert [each.id for each in output.promoted] == best
        assert [each.token for each in output.promoted] == subject.token_strings(best)
        assert [each.id for each in output.suppressed] == (-brute).topk(5).indices.tolist()
        assert output.controls.random_highest > 0 > output.controls.random_lowest


def test_nearest_by_cosine_equals_the_decoder(context: Context, latents: list[int]) -> None:
    decoder = context.subject.dictionary.decoder.double()
    unit = decoder / decoder.norm(dim=1, keepdim=True)
    cosines = unit @ unit[latents[0]]
    cosines[latents[0]] = -2
    near = output_of("nearest_latents", context, latent=latents[0], n=5)
    assert [each.index for each in near.by_cosine] == cosines.topk(5).indices.tolist()


def test_cofiring_equals_the_correlation_of_firings(context: Context, latents: list[int]) -> None:
    stored = context.need_harvest()
    fired: dict[int, np.ndarray] = {}
    near = output_of("nearest_latents", context, latent=latents[2], n=3).by_cofiring
    windows = stored.windows(range(stored.n_windows))
    offsets = np.cumsum([0, *(len(w.tokens) for w in windows)])
    sinks = np.zeros(offsets[-1], bool)
    for window, offset in zip(windows, offsets[:-1], strict=True):
        residual = context.subject.residual(torch.from_numpy(window.tokens.astype(np.int64))[None])
        sinks[offset : offset + len(window.tokens)] = context.subject.sinks(residual)[0].numpy()
    for latent in (latents[2], *(each.index for each in near)):
        firings = stored.activations(latent)
        fired[latent] = np.zeros(offsets[-1], bool)
        fired[latent][offsets[firings.window] + firings.position] = True
        assert not (fired[latent] & sinks).any()
    for each in near:
        expected = np.corrcoef(fired[latents[2]][~sinks], fired[each.index][~sinks])[0, 1]
        assert each.phi == pytest.approx(expected, abs=1e-6)


def test_steering_is_measured_beside_its_controls(context: Context, latents: list[int]) -> None:
    output = output_of("explain_by_output", context, latent=latents[1], prompts=4, strength=4)
    controls = output.controls
    assert controls.no_edit.kl == 0
    assert controls.no_edit.promoted == controls.no_edit.suppressed == ()
    assert output.steered.kl > 0
    norms = {round(each.norm, 3) for each in (output.steered, controls.random_direction, controls.random_latent)}
    assert len(norms) == 1, "the controls push as hard"
    assert controls.random_latent_index != latents[1]
    harder = output_of("explain_by_output", context, latent=latents[1], prompts=4, strength=16)
    assert harder.steered.kl > output.steered.kl


def test_a_context_measured_alone_equals_a_direct_run(context: Context, latents: list[int]) -> None:
    measure = last_activation(context, latents[0])
    window = context.need_harvest().windows([3])[0].tokens.tolist()
    contexts = [window[1:n] for n in (2, 5, 20, 12)]
    direct = [
        float(context.subject.activations(torch.tensor([[context.subject.bos, *c]]))[0, -1, latents[0]])
        for c in contexts
    ]
    np.testing.assert_allclose(measure(contexts), direct, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("text", [ODD, "plain words", "日本", "😀😀", "a\n\n  b"])
def test_pieces_add_up_to_the_text(subject: Subject, text: str) -> None:
    tokens = subject.tokenize([text])[0]
    strings = pieces(subject, tokens)
    assert len(strings) == len(tokens)
    assert "".join(strings) == text


def test_a_mark_on_part_of_a_character_marks_the_character(subject: Subject) -> None:
    tokens = subject.tokenize([" 日本"])[0]
    strings = pieces(subject, tokens)
    first = strings.index("")
    assert mark(strings, {first}).strip().startswith("<<日")
    assert mark(strings, {first}).replace("<<", "").replace(">>", "") == " 日本"
    assert mark([" New", " York", "!"], {0, 1}) == " <<New>> <<York>>!"
    assert mark(["a", "\n", "b"], {1}) == "a<<\n>>b"
    assert mark(["cout", " <<", " x"], {2}) == "cout < < <<x>>"


def test_halves_depend_on_the_document_alone(context: Context) -> None:
    stored = context.need_harvest()
    windows = windows_of(stored, range(stored.n_windows))
    halves = {window.document: half_of(stored, window.document) for window in windows}
    assert set(halves.values()) == {"explain", "score"}
    assert all(half_of(stored, w.document) == halves[w.document] for w in windows)


def test_bounds_hold_the_token_and_never_bos() -> None:
    for length in (2, 10, 40, 256):
        for position in range(1, length):
            start, end = bounds(length, position, 32)
            assert 1 <= start <= position < end <= length
            assert end - start == min(32, length - 1)
