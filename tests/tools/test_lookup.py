"""The lookup tools on the planted world, where every answer can be worked out by hand."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from store.errors import UserError
from tests.tools.calling import output_of
from tests.tools.world import (
    ANIMAL,
    ANIMALS,
    BANK,
    COLOUR,
    COLOURS,
    DEAD,
    DENSE,
    EXCEPT,
    ID,
    N_LATENTS,
    RARE,
    WORDS,
    documents,
    fires,
    planted_context,
)
from tools.workbench.context import Context
from tools.workbench.registry import ToolError, get_tool, tools
from tools.workbench.run import run, validate

TEXTS = documents()
TRUTH = np.concatenate([fires(words)[1:] for words in TEXTS])  # [tokens without BOS, N_LATENTS]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return planted_context(tmp_path_factory.mktemp("world"), texts=TEXTS)


def test_every_tool_has_a_docstring_and_a_schema() -> None:
    families = {"lookup", "labelling", "steering", "patching", "probing", "elicitation", "organisms"}
    assert {tool.family for tool in tools().values()} == families
    for tool in tools().values():
        assert tool.doc, tool.name
        assert tool.input.model_json_schema()["type"] == "object"


def test_top_examples_are_the_strongest_with_their_stored_activations(context: Context) -> None:
    output = output_of("top_examples", context, latent=COLOUR, top=20)
    peaks = [example.peak for example in output.top]
    windows = np.stack([fires(words)[:, COLOUR] for words in TEXTS]).max(axis=1)
    assert peaks == sorted(peaks, reverse=True)
    np.testing.assert_allclose(peaks[0], windows.max(), rtol=1e-3)
    assert output.count == (TRUTH[:, COLOUR] > 0).sum()
    assert output.density == pytest.approx((TRUTH[:, COLOUR] > 0).mean())
    for example in (*output.top, *output.deciles, *output.random):
        words = TEXTS[example.document][example.start : example.start + len(example.tokens)]
        assert list(example.tokens) == words
        truth = fires(TEXTS[example.document])[example.start : example.start + len(words), COLOUR]
        np.testing.assert_allclose(example.activations, truth, rtol=1e-3)


def test_deciles_hold_every_strength(context: Context) -> None:
    output = output_of("top_examples", context, latent=COLOUR)
    strengths = [int(example.peak) for example in output.deciles]
    assert set(strengths) == {4, 5, 6}
    assert len(output.random) == 5
    assert any(example.peak == 0 for example in output.random)


def test_repetitions_are_shown_only_when_nothing_else_is_left(tmp_path: Path) -> None:
    same = [["<s>", " ba", " be", " bi", " bo", " bu", " blue", f" {word}"] for word in ("da", "de", "di", "do")]
    other = ["<s>", " fa", " fe", " fi", " fo", " fu", " red", " da"]
    repeated = planted_context(tmp_path, texts=[*same, same[0], other])
    two = output_of("top_examples", repeated, latent=COLOUR, top=2, deciles=0, random=0).top
    assert [example.tokens[5] for example in two] == [" blue", " red"], "the weaker, but another context"
    every = output_of("top_examples", repeated, latent=COLOUR, top=100, deciles=100, random=0)
    for examples in (every.top, every.deciles):
        assert sorted(example.document for example in examples)[1:] == [1, 2, 3, 5], "of two equal texts one is shown"
        assert [e.peak for e in examples] == sorted((e.peak for e in examples), reverse=True)


@pytest.mark.parametrize("latent", [COLOUR, DENSE])
def test_sinks_are_in_no_output(context: Context, latent: int) -> None:
    output = output_of("top_examples", context, latent=latent, top=50, deciles=50, random=50)
    for example in (*output.top, *output.deciles, *output.random):
        assert example.start >= 1
        assert "<s>" not in example.tokens
        assert example.peak < 100
    reading = output_of("activate_on_text", context, latent=latent, texts=["red ba"]).readings[0]
    assert reading.tokens == (" red", " ba")
    assert reading.peak < 100
    assert all(lit.peak < 100 for lit in output_of("latents_on_text", context, text="red ba").latents)


def test_activate_on_text_measures_minimal_pairs(context: Context) -> None:
    output = output_of("activate_on_text", context, latent=EXCEPT, texts=["ba all except be", "ba bo except be"])
    first, second = output.readings
    assert first.activations == (0, 0, 8, 0)
    assert (first.peak, first.peak_token) == (8, " except")
    assert (second.peak, second.peak_token) == (0, None)
    assert output.harvest_max == pytest.approx(8, rel=1e-3)


def test_latents_on_text_ranks_by_peak_and_by_excess(context: Context) -> None:
    text = "ba all except cow be"
    by_peak = output_of("latents_on_text", context, text=text)
    assert [lit.index for lit in by_peak.latents][:2] == [EXCEPT, ANIMAL]
    assert by_peak.latents[1].token == " cow"
    assert by_peak.firing == len(by_peak.latents)
    by_excess = output_of("latents_on_text", context, text=text, rank="excess")
    assert by_excess.latents[0].index == ANIMAL, "a cow is the strongest animal; except always fires alike"
    sparse = output_of("latents_on_text", context, text=text, max_density=0.5)
    assert DENSE not in [lit.index for lit in sparse.latents]


def test_search_finds_text_and_tokens_with_activations(context: Context) -> None:
    output = output_of("search_examples", context, text="all except", latent=EXCEPT, n=200)
    holding = sum(" all except" in "".join(words) for words in TEXTS)
    assert len(output.matches) == holding
    assert all(m.example.activations[m.at] == pytest.approx(8, rel=1e-3) for m in output.matches)
    assert all(m.example.tokens[m.at] == " except" for m in output.matches)
    token = output_of("search_examples", context, token=" except", n=3)
    assert len(token.matches) == 3
    assert all(m.example.tokens[m.at] == " except" for m in token.matches)
    assert output_of("search_examples", context, text="no such text").looked_at == len(TEXTS)


def test_search_wants_one_token_and_one_question(context: Context) -> None:
    with pytest.raises(ToolError, match="not one token"):
        output_of("search_examples", context, token=" all except")
    with pytest.raises(UserError, match="either text or token"):
        output_of("search_examples", context)


def test_nearest_latents_by_cosine_and_cofiring(context: Context) -> None:
    output = output_of("nearest_latents", context, latent=COLOUR, n=N_LATENTS)
    assert output.by_cosine[0].index == ANIMAL
    assert output.by_cosine[0].cosine == pytest.approx(2 / np.sqrt(5))
    assert output.by_cofiring[0].index == RARE, "it fires on some of the colours and on nothing else"
    fired = TRUTH > 0
    for near in output.by_cofiring:
        if near.index in (DEAD, DENSE):  # never or always fires: there is no correlation
            assert near.phi == 0
        else:
            expected = np.corrcoef(fired[:, COLOUR], fired[:, near.index])[0, 1]
            assert near.phi == pytest.approx(expected, abs=1e-9)


def test_latent_profile_counts_what_fires(context: Context) -> None:
    output = output_of("latent_profile", context, latent=ANIMAL)
    values = TRUTH[:, ANIMAL]
    assert [t.token for t in output.top_tokens] == [" cow", " dog", " cat"]
    assert [t.mean for t in output.top_tokens] == pytest.approx([5, 4, 3], rel=1e-3)
    assert sum(t.count for t in output.top_tokens) == output.count == (values > 0).sum()
    assert output.mean == pytest.approx(values[values > 0].mean(), rel=1e-3)
    assert sum(b.count for b in output.histogram) == output.count
    for b in output.histogram:
        assert b.count == ((values >= b.low) & (values < b.high)).sum()
    assert not output.dead


def test_a_dead_latent_has_a_profile_and_no_examples(context: Context) -> None:
    profile = output_of("latent_profile", context, latent=DEAD)
    assert (profile.dead, profile.count, profile.histogram, profile.top_tokens) == (True, 0, (), ())
    for name in ("top_examples", "nearest_latents"):
        with pytest.raises(ToolError, match="dead"):
            output_of(name, context, latent=DEAD)


@pytest.mark.parametrize("index", [-1, N_LATENTS])
def test_an_unknown_latent_is_refused_before_anything_is_written(context: Context, index: int) -> None:
    for name in ("top_examples", "latent_profile", "direct_logit_effect", "neuron_to_graph"):
        with pytest.raises(UserError, match=f"Latent {index} is not in the dictionary"):
            asyncio.run(run(name, {"latent": index}, context))
    for name in ("activate_on_text",):
        with pytest.raises(UserError, match=f"Latent {index} is not in the dictionary"):
            asyncio.run(run(name, {"latent": index, "texts": ["ba"]}, context))


def test_texts_that_cannot_be_read_say_why(context: Context) -> None:
    with pytest.raises(ToolError, match="empty"):
        output_of("activate_on_text", context, latent=COLOUR, texts=[""])
    with pytest.raises(ToolError, match=r"at most 2,048"):
        output_of("activate_on_text", context, latent=COLOUR, texts=["ba " * 2048])


def test_without_a_harvest_the_reason_is_given(context: Context, tmp_path: Path) -> None:
    bare = Context(context.subject, context.ledger)
    with pytest.raises(ToolError, match="glossator harvest"):
        output_of("top_examples", bare, latent=COLOUR)
    assert output_of("activate_on_text", bare, latent=COLOUR, texts=["red"]).harvest_max is None
    assert output_of("latents_on_text", bare, text="red").latents[0].excess is None


def test_the_world_is_as_described() -> None:
    assert (TRUTH[:, BANK] > 0).any()
    assert all(word in ID for word in (*COLOURS, *ANIMALS))
    assert len(WORDS) == len(ID)


def pair(text: str, cause: str, instead: str) -> dict[str, str]:
    return {"text": text, "cause": cause, "instead": instead}


def test_minimal_pairs_tell_a_cause_from_its_surroundings(context: Context) -> None:
    causes = [pair("ba red da", "red", "cat"), pair("ba da be blue", "blue", "dog")]
    output = output_of("minimal_pairs", context, latent=COLOUR, pairs=causes).model_dump()
    assert (output["separated"], output["fires_with"], output["fires_without"]) == (1.0, 1.0, 0.0)
    assert output["low"] < 0.5 < output["high"] == 1.0  # two pairs prove little
    peak = float(fires(["<s>", " ba", " red", " da"])[2, COLOUR])
    assert output["pairs"][0]["with_cause"] == pytest.approx(peak)
    assert (output["pairs"][0]["token"], output["pairs"][0]["other"]) == (" red", "ba cat da")
    elsewhere = [pair("ba red da be", "da", "be"), pair("ba red da", "ba", "be")]
    assert output_of("minimal_pairs", context, latent=COLOUR, pairs=elsewhere).separated == 0.0
    assert (
        output_of("minimal_pairs", context, latent=EXCEPT, pairs=[pair("ba all except da", "all", "be")]).separated == 1
    )


def test_minimal_pairs_are_held_against_chance(context: Context) -> None:
    """By different words, however many texts each stands in: three causes of three, and no other of four."""
    swaps = [("red", "cat"), ("green", "dog"), ("blue", "cow"), ("red", "bank"), ("Red", "cat")]
    pairs = [
        pair(f"{word} {cause.lower()} da", cause.lower(), other)
        for word, (cause, other) in zip(("ba", "da", "fa", "ga", "la"), swaps, strict=True)
    ]
    output = output_of("minimal_pairs", context, latent=COLOUR, pairs=pairs, level=0.025)
    assert output.p == pytest.approx(1 / 35)
    assert (output.separated, output.clear) == (1.0, False)
    assert "by chance p = 0.029 (0.025 at most was asked for)" in output.verdict
    assert output_of("minimal_pairs", context, latent=COLOUR, pairs=pairs, level=0.05).clear
    assert output_of("minimal_pairs", context, latent=COLOUR, pairs=pairs[:1]).clear, (
        "no level: nothing is held against it"
    )


def test_minimal_pairs_have_other_latents_as_controls(context: Context) -> None:
    output = output_of(
        "minimal_pairs", context, latent=COLOUR, pairs=[pair("ba red cat da", "red", "blue")]
    ).model_dump()
    assert output["separated"] == 0.0
    assert output["controls"]["other_latents"] >= 2  # at least the animals' and the dense one
    both = output_of(
        "minimal_pairs", context, latent=COLOUR, pairs=[pair("ba be red cat da do", "red cat", "ba be")]
    ).model_dump()
    assert 0 < both["controls"]["separated"] < 1  # the animals' latent sees that, too; the dense one does not


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (pair("ba red", "blue", "cat"), "does not occur"),
        (pair("ba red", "red", " red "), "are the same"),
        (pair("ba red", "ba red", "cat"), "more than half"),
    ],
)
def test_pairs_that_are_not_minimal_are_refused(bad: dict[str, str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        validate(get_tool("minimal_pairs"), {"latent": COLOUR, "pairs": [bad]})


def test_only_the_place_of_the_cause_is_read(context: Context) -> None:
    """What fires before it is the same in both texts, and would hide that it separates nothing or all."""
    pairs = [pair("ba red da cat be", "cat", "dog"), pair("ba blue da green be", "green", "dog")]
    output = output_of("minimal_pairs", context, latent=COLOUR, pairs=pairs)
    first, second = output.pairs
    assert (first.with_cause, first.without_cause) == (0, 0)
    assert (second.separated, second.token, second.without_cause) == (True, " green", 0)
    assert "2 pairs settle little: the interval includes 0.5" in output.verdict


def test_a_cause_is_replaced_as_a_word() -> None:
    from tools.lookup.minimal_pairs import Pair

    assert Pair(text="This is it, is it", cause="is", instead="was").other == "This was it, is it"
    assert Pair(text="getattr(x, 'a_b') get\n  y", cause="get", instead="set").other == "getattr(x, 'a_b') set\n  y"
    assert Pair(text="his a_b is_c", cause="is", instead="was").other == "his a_b was_c"
    assert Pair(text="red da ba", cause="red", instead="").other == "da ba"
    assert Pair(text="a b (c) d", cause="(c)", instead="").other == "a b d"
    assert Pair(text="under way he went", cause="nder", instead="nto").other == "unto way he went"
