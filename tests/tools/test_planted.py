"""Planted latents: rules against hand-written texts, what the model carries against the rules, and grades of labels."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from store.ledger import Ledger
from tests.tools.world import FakeLLM
from tools.organisms.grade_planted import Output
from tools.organisms.planted.directions import single_tokens
from tools.organisms.planted.held_out import held_out
from tools.organisms.planted.latents import DECOYS, planted
from tools.organisms.planted.noun import Kind, Planted
from tools.organisms.planted.rules import firings
from tools.organisms.planted.subject import HOOK, PlantedSubject
from tools.organisms.planted.texts import written
from tools.workbench.context import Context
from tools.workbench.run import run
from tools.workbench.stats import Interval, balanced_accuracy, mean_interval
from tools.workbench.subject import Subject
from tools.workbench.unembed import random_direction

TOKEN = re.compile(r" ?[^\W\d_]+|\s?\d|\s|[^\w\s]|_")
BY_NAME = {latent.name: (index, latent) for index, latent in enumerate(planted())}
READERS = [latent for latent in planted() if latent.kind not in (Kind.WRITES, Kind.DECOY)]
WRITERS = [latent for latent in planted() if latent.kind is Kind.WRITES]
MARKED = {  # where each reader fires, token by token
    "weekdays": "We met on <<Tuesday>>, not in March; the <<Sunday>> after, it rained all day.",
    "months": "From <<January>> to <<June>> it may rain. On Monday it did.",
    "negations": "He did <<not>> say <<no>>. Nobody knew why, and she <<never>> asked.",
    "dollars": "It cost $<<4>><<5>>, or 4 5 euros, and $<<9>> more.",
    "years": "In 195<<4>> and 202<<1>> some 45 people paid $1999.",
    "units": "He ran 5 <<km>> in 20 <<minutes>>, many miles, and with 5 people 9 <<miles>> more.",
    "function names": "def <<area>>(x):\n    return area(x)\nThe def of it",
    "french": "It says: vous avez une maison <<dans>> <<la>> <<rue>>",
    "quoted": 'She said "<<come>> <<here>>" and (left) it.',
    "parenthesised": 'A dog (<<a>> <<big>> <<one>>) barked [loudly] "today".',
    "repeated names": "Anna saw Peter. <<Anna>> waved, but Oslo is Oslo.",
    "numbers in parentheses": "Two (<<2>>) dogs, 3 cats (three) [4].",
    "abbreviations in parentheses": "The WHO (<<WHO>>) and the agency (of Rome, <<NATO>>).",
    "capitals in quotation marks": 'Anna read "the <<Bible>> in <<Oslo>>" to Peter.',
    "first mentions": "<<Anna>> saw <<Peter>>. Anna waved.",
    "but without a comma": "Slow <<but>> sure, but dull; nothing <<but>> butter.",
    "open questions": 'Who is it<<?>> "Why?" he asked.',
    "capitals inside a sentence": "The man from <<Oslo>> slept. Then <<Peter>> left.",
}


@pytest.fixture
def subject(organism: PlantedSubject) -> Iterator[PlantedSubject]:
    """The real subject with the latents in it, taken out again for other tests."""
    organism.root()
    yield organism
    organism.uproot()


def texts(n: int, seed: int = 0) -> list[str]:
    """Texts of every reader's frames."""
    frames = [frame for latent in READERS for frame in latent.frames]
    return written(frames, n, np.random.default_rng(seed))


def tokens_of(subject: Subject, text: str) -> Tensor:
    return torch.tensor([[subject.bos, *subject.tokenize([text])[0]]])


@pytest.mark.parametrize("latent", READERS, ids=lambda latent: latent.name)
def test_a_rule_fires_where_a_person_says(latent: Planted) -> None:
    marked = MARKED[latent.name]
    expected = re.findall("<<(.*?)>>", marked)
    pieces = TOKEN.findall(re.sub("<<|>>", "", marked))
    assert "".join(pieces) == re.sub("<<|>>", "", marked)
    fired = [piece.strip() for piece, fires in zip(pieces, firings(latent.rule, pieces), strict=True) if fires]
    assert fired == expected


def test_every_kind_is_planted_and_an_index_does_not_tell_it() -> None:
    kinds = [latent.kind for latent in planted()]
    assert {kind: kinds.count(kind) >= 3 for kind in Kind} == dict.fromkeys(Kind, True)
    assert kinds != sorted(kinds, key=list(Kind).index)
    assert set(MARKED) == {latent.name for latent in READERS}


def test_the_dictionary_reads_from_the_model_what_the_rules_say(subject: PlantedSubject) -> None:
    fired = np.zeros(len(planted()), bool)
    for text in texts(60):
        tokens = tokens_of(subject, text)
        read, truth = subject.activations(tokens)[0].numpy(), subject.truth(tokens[0].tolist())
        assert np.array_equal(read > 0, truth > 0), text
        assert np.abs(read - truth).max() < 0.05, text
        fired |= truth.any(axis=0)
    assert fired[[index for index, latent in enumerate(planted()) if latent in READERS]].all()


def test_generated_tokens_are_read_with_their_context(subject: PlantedSubject) -> None:
    """Fed one at a time over a cache, every token activates what it does in one pass."""
    tokens = tokens_of(subject, 'Anna said on Monday, "Peter and Anna ran 5 miles" (in 1954).')
    caught: list[Tensor] = []
    hooks = [(HOOK, lambda value, hook: caught.append(value))]
    cache = None
    for start, end in [(0, 4), *((at, at + 1) for at in range(4, tokens.shape[1]))]:
        seen = {} if cache is None else {"past_key_values": cache, "attention_mask": torch.ones(1, end)}
        with torch.no_grad():
            _, cache = subject.model.run_with_hooks(
                tokens[:, start:end], return_type="logits_and_cache", fwd_hooks=hooks, use_cache=True, **seen
            )
    read = subject.dictionary.encode(torch.cat(caught, dim=1))[0, 1:]
    assert torch.allclose(read, subject.activations(tokens)[0, 1:], atol=0.05)
    assert (read > 0).any(dim=0).sum() >= 5


def test_a_rooted_out_latent_leaves_the_model_as_it_was(subject: PlantedSubject) -> None:
    tokens = tokens_of(subject, "The committee meets again on Tuesday (in Oslo) to vote.")
    with_latents = subject.logits(tokens)
    subject.uproot()
    bare = subject.logits(tokens)
    subject.root()
    assert not torch.allclose(bare, with_latents, atol=0.1)
    assert torch.equal(subject.logits(tokens), with_latents)
    subject.uproot()
    assert torch.equal(Subject("bare", subject.model, HOOK, None).logits(tokens), bare)
    subject.root()


def test_decoys_fire_at_their_rate_whatever_the_text(subject: PlantedSubject) -> None:
    """On random strings of words no decoy goes with a token or with another latent more than chance has it."""
    rng = np.random.default_rng(5)
    words = sorted({word for text in texts(300) for word in text.split()})
    ids = [[subject.bos, *row] for row in subject.tokenize([" ".join(rng.choice(words, 40)) for _ in range(400)])]
    fired = np.concatenate([subject.truth(row)[1:] for row in ids]) > 0
    tokens = np.concatenate([row[1:] for row in ids])
    decoys = [BY_NAME[f"decoy {number}"][0] for number in range(1, len(DECOYS) + 1)]

    def as_chance_has_it(found: float, expected: float) -> bool:
        return abs(found - expected) < 4 * np.sqrt(expected) + 2  # counts, Poisson

    for index, share in zip(decoys, DECOYS, strict=True):
        assert as_chance_has_it(fired[:, index].sum(), share * len(tokens))
        for other in (index for index in range(len(planted())) if index not in decoys):
            together = (fired[:, index] & fired[:, other]).sum()
            assert as_chance_has_it(together, share * fired[:, other].sum()), planted()[other].name
        for token in (
            token for token, count in zip(*np.unique(tokens, return_counts=True), strict=True) if count >= 100
        ):
            where = tokens == token
            assert as_chance_has_it(fired[where, index].sum(), share * where.sum())
    assert all(np.array_equal(subject.truth(row), subject.truth(row)) for row in ids[:5])


@pytest.mark.parametrize("latent", WRITERS, ids=lambda latent: latent.name)
def test_a_writer_promotes_its_words_and_controls_do_not(subject: PlantedSubject, latent: Planted) -> None:
    index = BY_NAME[latent.name][0]
    prompts = ["I looked at the", "They told us about the", "In the end she wanted a", "He pointed at his"]
    words, near = (list(single_tokens(subject, side).values()) for side in (latent.frames, latent.near))
    assert min(len(words), len(near)) >= 8
    ids = [[subject.bos, *row] for row in subject.tokenize(prompts)]
    last = [len(row) - 1 for row in ids]
    tokens = torch.tensor([row + [0] * (max(last) + 1 - len(row)) for row in ids])

    def ends(push: Tensor) -> Tensor:
        """[vocabulary]: log-probability of the next token with `push` added everywhere, mean over the prompts."""
        hook = (HOOK, lambda value, hook: value + push * subject.strongest)
        logits = subject.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[hook])
        return logits[range(len(ids)), last].log_softmax(-1).mean(dim=0)

    plain = ends(torch.zeros(subject.d_model))
    gained = ends(subject.dictionary.decoder[index]) - plain
    assert gained[words].mean() > 2.5  # nats
    assert gained[near].mean() < gained[words].mean() - 2.0
    for control in (random_direction(subject, 3), subject.dictionary.decoder[BY_NAME["weekdays"][0]]):
        assert (ends(control) - plain)[words].mean() < 1.0


def judge_of(meanings: dict[str, Planted]) -> FakeLLM:
    """Knows what every meaning says, and judges a text by it."""

    def verdict(template: str, explanation: str, snippet: str) -> float:
        latent = meanings[explanation]
        if latent.kind is Kind.WRITES:
            return 5.0 if snippet in latent.frames else -5.0
        return 5.0 if any(firings(latent.rule, TOKEN.findall(snippet))) else -5.0

    return FakeLLM(judge=verdict)


def graded(subject: PlantedSubject, folder: Path, llm: FakeLLM, index: int, label: str) -> Output:
    context = Context(subject, Ledger(folder / "store.duckdb"), None, llm)  # type: ignore[arg-type]
    asked = {"latent": index, "text": label, "positives": 10, "negatives": 10}
    experiment = asyncio.run(run("grade_planted", asked, context))
    assert experiment.error is None, experiment.error
    return Output.model_validate(experiment.output)


def test_the_truth_is_graded_1_a_wrong_label_low_and_a_constant_judge_half(
    subject: PlantedSubject, tmp_path: Path
) -> None:
    meaningful = [*READERS, *WRITERS]
    oracle = judge_of({latent.meaning: latent for latent in meaningful})
    constant = FakeLLM(judge=lambda *_: 2.0)
    for place, latent in enumerate(meaningful):
        index, wrong = BY_NAME[latent.name][0], meaningful[(place + 7) % len(meaningful)]
        right = graded(subject, tmp_path, oracle, index, latent.meaning)
        assert (right.value, right.balanced, right.passed, right.name) == (1.0, 1.0, True, latent.name)
        assert graded(subject, tmp_path, oracle, index, wrong.meaning).value <= 0.6, (latent.name, wrong.name)
        assert graded(subject, tmp_path, constant, index, latent.meaning).value == 0.5


def test_no_label_of_a_decoy_passes(subject: PlantedSubject, tmp_path: Path) -> None:
    oracle = judge_of({latent.meaning: latent for latent in READERS})
    decoy = BY_NAME["decoy 4"][0]
    grades = [graded(subject, tmp_path, oracle, decoy, latent.meaning) for latent in READERS[:8]]
    assert sum(grade.passed for grade in grades) <= 1
    assert grades[0].mix == {"firing": 10, "silent": 10}


def test_near_misses_are_half_of_a_readers_negatives(subject: PlantedSubject) -> None:
    for latent in READERS:
        items = held_out(subject, BY_NAME[latent.name][0], 10, 10, np.random.default_rng(1))
        kinds = [item.kind for item in items]
        assert [kinds.count(kind) for kind in ("firing", "near", "other")] == [10, 5, 5], latent.name
        assert len({item.text for item in items}) == 20


def test_balanced_accuracy_and_means_have_honest_intervals() -> None:
    assert balanced_accuracy([1.0] * 10, [1.0] * 10).value == 0.5
    perfect = balanced_accuracy([1.0] * 10, [-1.0] * 10)
    assert perfect.value == perfect.high == 1.0
    assert 0.7 < perfect.low < 0.9
    alike = mean_interval([Interval(1.0, 0.8, 1.0), Interval(1.0, 0.8, 1.0)])
    assert alike.low == pytest.approx(1 - np.hypot(0.2, 0.2) / 2)
    apart = mean_interval([Interval(0.2, 0.1, 0.3), Interval(0.8, 0.7, 0.9)])
    assert (apart.low, apart.high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
