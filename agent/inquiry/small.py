"""The forms in which a small LLM works: one hypothesis at a time, and nothing to write that code knows already."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from agent.inquiry.brief import SHOWN_TOKENS
from agent.inquiry.menu import MINIMAL_PAIRS, Form, Refine, Sentence, form, open_labels
from agent.inquiry.swaps import LEAST, Frequencies, fits, places
from agent.state import Case, Stated
from prompts.actions import Action, inlined
from store.errors import UserError
from store.types import Comparison, Experiment

if TYPE_CHECKING:
    from tools.workbench.context import Context

PAIRS, FEWEST = 3, 2  # asked for, and left, in a test
SMALL_ASKS = 3  # at most, for words
NEW = 2  # of the words, those on which it was not seen to fire
WORD = r"^[^\"\\]{1,20}$"
RIVAL = "whether it fires in such places depends on position, context and frequency alone, not on the word"
MARKED = re.compile(r"<<(.+?)>>")
PARTS = re.compile(r"\w*(?:<<\w+>>\w*)+")  # a word of which tokens are marked

_VERBS = r"do|mean|represent|detect|encode|stand for|(?:fire|activate) (?:on|for)|(?:respond|react) to"
_LATENT = r"(?:the )?(?:latent|feature) #?\d+"
WHAT_IT_FIRES_ON = re.compile(
    rf"(?:on |to )?(?:what|which)(?: words| tokens| texts)? does {_LATENT} (?:{_VERBS}|fire|respond|react)|"
    rf"when does {_LATENT} fire|what (?:is|activates) {_LATENT}|what makes {_LATENT} fire|"
    rf"(?:explain|describe) {_LATENT}",
    re.IGNORECASE,
)

Word = Annotated[str, Field(pattern=WORD)]


class Words(Form):
    """Tests what makes the latent fire by words that should, put in the place of a token on which it fires."""

    fires: list[Word] = Field(min_length=PAIRS, max_length=PAIRS)


class One(Form):
    """States a hypothesis."""

    hypotheses: list[Sentence] = Field(min_length=1, max_length=1)


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


def asks_more(question: str) -> bool:
    """Whether the question asks anything but what a latent fires on, which is all that this form answers."""
    return WHAT_IT_FIRES_ON.fullmatch(" ".join(question.split()).rstrip("?.! ")) is None


def known(shown: Iterable[tuple[str, Experiment]]) -> set[str]:
    """The words, casefolded, that the LLM was shown the latent to fire on, and those that it tried before.

    `shown`: runs with the line by which each was told.
    """
    found: set[str] = set()
    for line, experiment in shown:
        if experiment.output is None:
            continue
        if experiment.tool == MINIMAL_PAIRS:
            found |= {pair["cause"] for pair in experiment.input["pairs"]}
        elif experiment.tool == "latent_profile":
            found |= {each["token"] for each in experiment.output["top_tokens"][:SHOWN_TOKENS]}
        else:
            found |= {*MARKED.findall(line), *(MARKED.sub(r"\1", part) for part in PARTS.findall(line))}
    return {word.strip().casefold() for word in found}


def guessed(causes: Iterable[str], seen: set[str]) -> bool:
    """Whether a test on these words predicts too little: fewer than two of them are new."""
    return sum(cause.casefold() not in seen for cause in causes) < NEW


def spelled_out(
    case: Case, arguments: dict[str, Any], context: "Context", seen: set[str], last: bool
) -> dict[str, Any]:
    """Arguments in that form as the tool takes them, the words in places of texts that were not shown.

    Beside each stands another word, as frequent. By the newest hypothesis the words matter, by any other that stands
    they do not. ValidationError for another form, UserError for words that repeat, are not new (unless this is the
    `last` try) or leave too few pairs.
    """
    from tools.lookup.minimal_pairs import Pair

    assert case.latent is not None, "this form is about a latent"
    named = {word.strip().casefold(): word.strip() for word in Words.model_validate(arguments).fires}
    if not last and len(named) < PAIRS:
        raise UserError(f"The {PAIRS} words repeat: give different ones.")
    if not last and guessed(named, seen):
        old = ", ".join(named[word] for word in named if word in seen)
        raise UserError(f"Seen already: {old}; at least {NEW} of the {PAIRS} words must be new ones.")
    found, frequencies = places(context, case.latent), Frequencies.of(context, case.latent)
    found.sort(key=lambda place: not place[0].endswith(" "))  # where a word stood, as long as there is such a place
    begin = PAIRS * sum(run.tool == MINIMAL_PAIRS for run in case.runs)
    pairs: list[dict[str, str]] = []
    for number, cause in enumerate(named.values(), begin):
        instead = frequencies.match(cause, {*named, *(pair["instead"] for pair in pairs)})
        for before, after in [found[(number + turn) % len(found)] for turn in range(len(found))]:
            pair = {"text": f"{before}{cause}{after}", "cause": cause, "instead": instead or ""}
            tight = not all(fits((before, after), word) for word in (cause, instead or ""))
            if instead and not tight and _fits(Pair, pair) and Pair(**pair).start == len(before):
                pairs.append(pair)
                break
    if len(pairs) < FEWEST:
        raise UserError("There is no other word as frequent, or no place, for those words: give other ones.")
    expect = [
        {"hypothesis": label, "comparison": Comparison.AT_LEAST if label == newest(case).label else Comparison.LESS}
        for label in open_labels(case)
    ]
    return {"input": {"pairs": pairs}, "expect": expect}


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
