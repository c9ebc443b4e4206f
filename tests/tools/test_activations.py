"""Activations at chosen tokens: what the model has there, read once, in one pass, and never a sink."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tools.workbench import activations
from tools.workbench.activations import Case, read_activations
from tools.workbench.context import Context
from tools.workbench.labelled import locate
from tools.workbench.registry import ToolError
from tools.workbench.sites import At
from tools.workbench.subject import Subject

TEXTS = ("The weather in Paris is mild.", "A dog barked.", "She left the old house at dawn, and nobody saw her go.")
SITES: list[At] = [("resid_pre", 0), ("resid_pre", 9), ("z", 4), ("mlp_out", 7), ("neuron", 3), ("latent", 15)]


@pytest.fixture(scope="module")
def cases(subject: Subject) -> list[Case]:
    """Each text's last token and, of the first, also the mean over the word Paris and what comes before."""
    found = []
    for text, ids in zip(TEXTS, subject.tokenize(list(TEXTS)), strict=True):
        tokens = (subject.bos, *ids)
        assert text
        found.append(Case(tokens, (len(tokens) - 1,), tuple(range(1, len(tokens)))))
    span = tuple(locate(subject, found[0].tokens, "Paris"))
    return [*found, Case(found[0].tokens, (1, *span), span)]


@contextmanager
def counted(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows of each forward pass."""
    rows: list[int] = []
    plain = subject.model.run_with_hooks

    def run_with_hooks(tokens: torch.Tensor, **more: Any) -> Any:
        rows.append(len(tokens))
        return plain(tokens, **more)

    with monkeypatch.context() as patch:
        patch.setattr(subject.model, "run_with_hooks", run_with_hooks)
        yield rows


def test_every_site_holds_what_the_model_has_there(context: Context, cases: list[Case]) -> None:
    subject = context.subject
    found = read_activations(context, cases, SITES, surface=True)
    hooks = ("hook_resid_pre", "hook_resid_pre", "attn.hook_z", "hook_mlp_out", "mlp.hook_post", "hook_resid_pre")
    for site, hook in zip(SITES, hooks, strict=True):
        for row, case in enumerate(cases):
            value = subject.value_at(f"blocks.{site[1]}.{hook}", torch.tensor([case.tokens]))[0].flatten(1)
            there = value[list(case.places)]
            if site[0] == "latent":
                there = subject.dictionary.encode(there)
            expected = there.mean(0).numpy()
            assert np.abs(found.values[site][row] - expected).max() < 2e-3 * max(1.0, np.abs(expected).max())
    assert found.read.all()
    assert found.surface is not None
    for row, case in enumerate(cases):
        said = subject.logits(torch.tensor([case.tokens]))[0].log_softmax(-1)
        mean = np.mean([float(said[place - 1, case.tokens[place]]) for place in case.span])
        assert found.surface[row, 2] == pytest.approx(mean, abs=0.01)
        assert found.surface[row, 0] == len(case.span)


def test_a_text_is_read_once_for_all_sites_and_never_again(
    context: Context, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    every: list[At] = [("resid_pre", layer) for layer in range(context.subject.n_layers)]
    with counted(context.subject, monkeypatch) as rows:
        first = read_activations(context, cases, [*every, *SITES[2:]], surface=True)
        assert sum(rows) == len(TEXTS)  # the fourth case is of the first text
        again = read_activations(context, cases, every, surface=True)
        (part,) = read_activations(context, cases, [("resid_pre", 9)]).values.values()
        assert sum(rows) == len(TEXTS)
        read_activations(context, cases, [("resid_pre", 9), ("resid_mid", 9)])
        assert sum(rows) == 2 * len(TEXTS)  # for the new site alone
    for site in every:
        assert np.array_equal(first.values[site], again.values[site])
    assert np.array_equal(part, first.values["resid_pre", 9])
    assert first.surface is not None
    assert again.surface is not None
    assert np.array_equal(first.surface, again.surface)


def test_a_reading_that_was_ended_goes_on_where_it_was(
    context: Context, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of two cases; ended after the first part, which is not read again, whatever the parts the same is found."""
    whole = read_activations(context, cases[:3], SITES[:1], surface=True)
    monkeypatch.setattr(activations, "PART", 2)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise KeyboardInterrupt

    context.progress = stop
    with pytest.raises(KeyboardInterrupt):
        read_activations(context, cases[:3], SITES[:1], surface=True)
    assert told == [(2, 3), (3, 3)]
    with counted(context.subject, monkeypatch) as rows:
        again = read_activations(context, cases[:3], SITES[:1], surface=True)
        assert sum(rows) == 1
    assert told[2:] == [(3, 3)]
    assert np.allclose(whole.values[SITES[0]], again.values[SITES[0]], atol=0.05, rtol=0.01)
    assert whole.surface == pytest.approx(again.surface, abs=0.01)


def test_other_texts_places_and_models_are_other_readings(
    context: Context, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = context.subject
    with counted(subject, monkeypatch) as rows:
        read_activations(context, cases[:2], SITES[:1])
        read_activations(context, [cases[0]._replace(places=(1,)), cases[1]], SITES[:1])
        read_activations(context, cases[1:3], SITES[:1])
        assert sum(rows) == 6
        monkeypatch.setitem(vars(subject), "adapter", SimpleNamespace(on=False, sha256="x"))
        read_activations(context, cases[:2], SITES[:1])
        assert sum(rows) == 8


def test_sinks_are_left_out(context: Context, cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is made a sink counts in no mean; a text with nothing else to read is not read."""
    plain = type(context.subject).sinks
    bad = cases[0].tokens

    def sinks(self: Subject, residual: torch.Tensor, typical: float | None = None, start: int = 0) -> torch.Tensor:
        found = plain(self, residual, typical, start)
        if start == 1 and len(found) == 2:
            found[:] = torch.tensor([[False], [True]])
        return found

    last = len(bad) - 1
    two = [Case(bad, (last - 1, last), (last,))]
    monkeypatch.setattr(type(context.subject), "sinks", sinks)
    mean = read_activations(context, two, [("resid_pre", 9)]).values["resid_pre", 9][0]
    alone = context.subject.value_at("blocks.9.hook_resid_pre", torch.tensor([bad]))[0, last - 1]
    assert mean == pytest.approx(alone.numpy(), abs=0.1)
    monkeypatch.setattr(type(context.subject), "sinks", lambda *_, **__: torch.ones(1, 1, dtype=torch.bool))
    found = read_activations(context, [Case(bad, (last,), (last,))], [("resid_pre", 9)])
    assert found.read.tolist() == [False]
    assert np.isnan(found.values["resid_pre", 9]).all()


def test_activations_that_are_not_finite_are_refused(
    context: Context, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = context.subject.model.original_model.model.layers[5].mlp.down_proj.weight
    broken = weight.data.clone()
    broken[0, 0] = torch.nan
    monkeypatch.setattr(weight, "data", broken)
    with pytest.raises(ToolError, match="resid_pre in layer 9 are not finite in text 0: leave that text out"):
        read_activations(context, cases, [("resid_pre", 9)])


def test_what_cannot_be_read_is_said(context: Context, cases: list[Case]) -> None:
    wrong: dict[Any, str] = {
        ("pattern", 3): "No probe reads pattern",
        ("latent", 3): "reads layer 15",
        ("resid_pre", 99): "Layer 99 does not exist",
    }
    for site, said in wrong.items():
        with pytest.raises(ToolError, match=said):
            read_activations(context, cases, [site])


def test_an_entity_is_found_at_its_last_place(subject: Subject) -> None:
    text = "Reykjavik is cold, and Reykjavik is small."
    ids = [subject.bos, *subject.tokenize([text])[0]]
    span = locate(subject, ids, "Reykjavik")
    assert subject.tokenizer.decode(ids[span.start : span.stop]).strip() == "Reykjavik"
    assert span.start > len(ids) // 2
    with pytest.raises(ToolError, match="'Oslo' is not in its text"):
        locate(subject, ids, "Oslo")
