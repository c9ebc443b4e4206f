"""The forms in which a small LLM works: one hypothesis at a time, and nothing to write that code knows already."""

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from agent.inquiry.menu import MINIMAL_PAIRS, Dull, Form, Refine, Sentence, State, form, open_labels
from agent.state import Case, Stated
from prompts.actions import Action, inlined
from store.errors import UserError
from store.types import Comparison, Experiment

PAIRS, FEWEST = 3, 2  # asked for, and left, in a test
WORD = r"^[^\"\\]{1,20}$"
BEFORE, AFTER = 12, 6  # words of a context
LEAST = 0.1  # of the latent's maximum: what minimal_pairs counts as firing
CLEAR = 0.3  # of the latent's maximum: contexts in which it surely fires


Word = Annotated[str, Field(pattern=WORD)]


class Words(Form):
    """Tests what makes the latent fire by words that should, put in the place of a token on which it fires."""

    fires: list[Word] = Field(min_length=PAIRS, max_length=PAIRS)


class Rival(Dull):
    account: Literal["frequency", "position"]  # by token identity the marked words would matter, too


class One(State):
    """States a hypothesis, and the dull rival that must be beaten."""

    hypotheses: list[Sentence] = Field(min_length=1, max_length=1)
    dull: Rival


def newest(case: Case) -> Stated:
    """The hypothesis to be tested next: the last one that is not dull."""
    return [h for h in case.hypotheses if not h.dull][-1]


def one_hypothesis(case: Case) -> Action:
    return form("state_hypotheses", One, case)


def refinement(case: Case) -> Action:
    """A better hypothesis in the place of the newest one."""
    action = form("refine", Refine, case)
    properties = {"of": {"const": newest(case).label}, "claim": action.schema["properties"]["claim"]}
    return replace(action, schema={**action.schema, "properties": properties, "required": list(properties)})


def words() -> Action:
    """A test on minimal pairs."""
    return Action(MINIMAL_PAIRS, Words.__doc__ or "", inlined(Words.model_json_schema()))


def spelled_out(case: Case, arguments: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    """Arguments in that form as the tool takes them, the words in contexts of `examples`, an output of top_examples.

    Beside each stands a word of the random texts there. By the newest hypothesis the words matter, by any other that
    stands they do not. ValidationError for another form, UserError for too few pairs.
    """
    from tools.lookup.minimal_pairs import Pair

    firing = [word.strip() for word in Words.model_validate(arguments).fires]
    known = {word.lower() for word in firing}
    silent = [word for word in random_words(examples) if word.lower() not in known]
    places, begin = contexts(examples), PAIRS * sum(run.tool == MINIMAL_PAIRS for run in case.runs)
    if firing[0][:1].isalpha():  # a word goes where a word stood, as long as there is such a place
        places.sort(key=lambda place: not place[0].endswith(" "))
    pairs: list[dict[str, str]] = []
    for number, cause in enumerate(firing if places and silent else ()):
        before, after = places[(begin + number) % len(places)]
        instead = silent[(begin + number) % len(silent)]
        pair = {"text": f"{before}{cause}{after}", "cause": cause, "instead": instead}
        if _fits(Pair, pair) and pair not in pairs:
            pairs.append(pair)
    if len(pairs) < FEWEST:
        raise UserError(f"Give {PAIRS} words on which it should fire.")
    expect = [
        {"hypothesis": label, "comparison": Comparison.AT_LEAST if label == newest(case).label else Comparison.LESS}
        for label in open_labels(case)
    ]
    return {"input": {"pairs": pairs}, "expect": expect}


def contexts(examples: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands before and after the strongest token of the examples, as far as no other token fires."""
    found = []
    for example in [*examples["deciles"], *examples["top"]]:
        tokens, activations = example["tokens"], example["activations"]
        at = activations.index(max(activations))
        if activations[at] < CLEAR * examples["max"] or not tokens[at].strip():
            continue
        fires = [activation >= LEAST * examples["max"] for activation in activations]
        first = max((place + 1 for place in range(at) if fires[place]), default=0)
        end = next((place for place in range(at + 1, len(tokens)) if fires[place]), len(tokens))
        before, after = "".join(tokens[first:at]), "".join(tokens[at + 1 : end])
        gap = " " if tokens[at][:1].isspace() or before[-1:].isspace() else ""
        before = (" ".join(before.split()[-BEFORE:]) + gap).lstrip()
        after = (" " if after[:1].isspace() else "") + " ".join(after.split()[:AFTER])
        found.append((before, after))
    return list(dict.fromkeys(found))


def random_words(examples: dict[str, Any]) -> list[str]:
    """Words of the random texts on which the latent does not fire."""
    found = []
    for example in examples["random"]:
        tokens = zip(example["tokens"], example["activations"], strict=True)
        found += [token.strip() for token, a in tokens if not a and re.fullmatch(r"\s[^\W\d_]{2,12}", token)]
    return list(dict.fromkeys(found))


def fired(tests: list[Experiment]) -> str:
    """On which of the words tried the latent fired, in a sentence."""
    yes: dict[str, None] = {}
    no: dict[str, None] = {}
    for test in tests:
        output = test.output or {}
        for pair, reading in zip(test.input["pairs"], output["pairs"], strict=True):
            for word, peak in ((pair["cause"], "with_cause"), (pair["instead"], "without_cause")):
                (yes if reading[peak] >= LEAST * output["harvest_max"] else no)[word] = None
    return f"It fired on {', '.join(yes) or 'none'}; not on {', '.join(no) or 'none'}."


def _fits(model: type[BaseModel], values: dict[str, str]) -> bool:
    try:
        model.model_validate(values)
    except ValidationError:
        return False
    return True
