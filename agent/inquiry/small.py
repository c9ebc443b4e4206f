"""The forms in which a small LLM works: a few words at a time, and nothing to write that code knows already.

Of a latent it states two hypotheses about the words that were shown. Then, seeing one hypothesis and nothing else, it
picks the five that fit best out of words that were not shown. On a third of these the latent fires, as code knows and
it does not. Code puts the five, and the others in the same places, into texts, and counts. A third hypothesis is of
code, by what the shown words hold; code picks, too, what fits that.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from agent.inquiry.brief import FIRING
from agent.inquiry.menu import EXAMPLES, MINIMAL_PAIRS, Form, Refine, Sentence, form, open_labels
from agent.inquiry.swaps import fits, places
from agent.state import Case, Stated
from prompts.actions import Action, inlined
from store.errors import UserError
from store.types import Comparison, Experiment

if TYPE_CHECKING:
    from tools.workbench.context import Context

WORDS = "firing_words"  # the tool that shows them
FIRES = 6  # words on which the latent fires, offered for a test; beside each are two silent ones, one that looks alike
PICKED = 5  # of all these, as those that fit best: four of them must fire, if none of the rest does, to be no chance
FEWEST = 4  # of the former: fewer decide nothing
MOST = 20  # pairs of a test
RIVAL = "whether it fires in such places depends on position, context and frequency alone, not on the word"
SAYS = "it fires on "  # how a hypothesis begins
HELD = 0.5  # of the shown words that must hold what code supposes to be the cause
LONGEST = 8  # characters of it
EXAMPLES_OF = re.compile(r",?\s*\b(?:such as|for example|for instance|including|e\.g\.).*", re.IGNORECASE | re.DOTALL)
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


class Two(Form):
    """States two hypotheses: what most of the words have in common, and another account of the same."""

    hypotheses: list[Sentence] = Field(min_length=2, max_length=2)


class Fits(Form):
    """Names the words that fit best."""

    fits: list[str] = Field(min_length=PICKED, max_length=PICKED)


def claimed(kind: str) -> str:
    """The hypothesis that it fires on a kind of words. Examples are left out: whoever has them picks what resembles
    them, whatever kind is claimed."""
    kind = kind.strip().rstrip(".")
    kind = kind[len(SAYS) :] if kind.lower().startswith(SAYS) else kind
    return SAYS + (EXAMPLES_OF.sub("", kind).strip() or kind)


def untested(case: Case) -> list[Stated]:
    """The hypotheses that wait for a test: neither dull nor refuted, and no prediction of them is registered or held.

    One whose test decided nothing has had its turn.
    """
    had = {prediction.hypothesis for prediction in case.predictions}
    return [h for h in case.hypotheses if not h.dull and h.says and h.label not in had]


def refined(case: Case) -> Stated:
    """The hypothesis to be replaced: of those that are not dull the newest that was not refuted, or else the newest."""
    real = [h for h in case.hypotheses if not h.dull and h.holds is None]
    return next((h for h in reversed(real) if case.standing(h.label) != "refuted"), real[-1])


def two_hypotheses(case: Case) -> Action:
    return form("state_hypotheses", Two, case)


def refinement(case: Case) -> Action:
    """A better hypothesis in the place of one."""
    action = form("refine", Refine, case)
    properties = {"of": {"const": refined(case).label}, "claim": action.schema["properties"]["claim"]}
    return replace(action, schema={**action.schema, "properties": properties, "required": list(properties)})


def picking(words: list[str]) -> Action:
    """A test on minimal pairs: which of these words fit."""
    schema = inlined(Fits.model_json_schema())
    schema["properties"]["fits"]["items"] = {"enum": words}
    return Action(MINIMAL_PAIRS, Fits.__doc__ or "", schema)


def quoted(words: Iterable[str]) -> list[str]:
    """As the LLM reads and writes them."""
    return [json.dumps(word, ensure_ascii=False) for word in words]


def asks_more(question: str) -> bool:
    """Whether the question asks anything but what a latent fires on, which is all that this form answers."""
    return WHAT_IT_FIRES_ON.fullmatch(" ".join(question.split()).rstrip("?.! ")) is None


def known(shown: Iterable[tuple[str, Experiment]]) -> set[str]:
    """The words, casefolded, that the LLM was shown the latent to fire on, and those that were tried before.

    `shown`: runs with the line by which each was told.
    """
    found: set[str] = set()
    for line, experiment in shown:
        if experiment.output is None:
            continue
        if experiment.tool == MINIMAL_PAIRS:
            found |= {pair[which] for pair in experiment.input["pairs"] for which in ("cause", "instead")}
        elif experiment.tool == WORDS:
            found |= {each["word"] for each in experiment.output["words"]}
        else:
            found |= {*MARKED.findall(line), *(MARKED.sub(r"\1", part) for part in PARTS.findall(line))}
    return {word.strip().casefold() for word in found}


def unspoilt(experiment: Experiment, context: "Context") -> Experiment:
    """The examples without those in which it fires on a word that is kept for tests."""
    from tools.workbench.lexicon import WORDS as WORD
    from tools.workbench.lexicon import lexicon

    if experiment.tool != EXAMPLES or experiment.output is None:
        return experiment
    words = lexicon(context.subject, context.need_harvest(), experiment.input["latent"], context.seed)
    kept = {entry.word.casefold() for entry in words.firing("score")}

    def shows(example: dict[str, Any]) -> bool:
        text, least = "".join(example["tokens"]), FIRING * max(example["activations"])
        pieces = zip(example["tokens"], example["activations"], strict=True)
        fires = "".join(("x" if activation >= least else " ") * len(token) for token, activation in pieces)
        found = [match for match in WORD.finditer(text) if "x" in fires[match.start() : match.end()]]
        return not any(match.group().casefold() in kept for match in found)

    groups = {name: [each for each in experiment.output[name] if shows(each)] for name in ("top", "deciles")}
    return experiment.model_copy(update={"output": experiment.output | groups})


def common(context: "Context", latent: int, n: int) -> str | None:
    """What most sets the first n words of the half "explain" apart by spelling: the piece, casefolded, whose share
    among them exceeds most that among words on which the latent never fires; a sign, or two letters or more. None where
    fewer than half of them hold one."""
    from tools.workbench.lexicon import lexicon

    words = lexicon(context.subject, context.need_harvest(), latent, context.seed)
    shown = [entry.word.casefold() for entry in words.firing("explain")[:n]]
    silent = [key for key, entry in words.entries.items() if not entry.fires]
    spans = ((word, i, j) for word in shown for i in range(len(word)) for j in range(i + 1, i + 1 + LONGEST))
    counts = Counter({piece: sum(piece in word for word in shown) for piece in {word[i:j] for word, i, j in spans}})
    long = {piece for piece in counts if len(piece) > 1 or not piece.isalnum()}
    best = [piece for piece in long if counts[piece] >= max(2, HELD * len(shown))]
    if not best or not silent:
        return None

    def apart(piece: str) -> tuple[float, int, str]:
        share = counts[piece] / len(shown) - sum(piece in word for word in silent) / len(silent)
        return round(share, 2), len(piece), piece

    return max(best, key=apart)


def offered(context: "Context", latent: int, seen: set[str]) -> list[str]:
    """Words for a test, shuffled: new ones on which the latent fires, and as frequent ones on which it does not.

    None where the former are too few to decide anything.
    """
    from tools.workbench.lexicon import lexicon

    words = lexicon(context.subject, context.need_harvest(), latent, context.seed)
    rng = context.rng("offered", latent, *sorted(seen))
    firing = [entry.word for entry in words.firing("score") if entry.word.casefold() not in seen][:FIRES]
    if len(firing) < FEWEST:
        return []
    taken = {*seen, *(word.casefold() for word in firing)}
    found = list(firing)
    for near_miss in (True, False):
        for word in firing:
            if other := words.silent(word, taken, rng, near_miss):
                found.append(other)
                taken.add(other.casefold())
    return [found[index] for index in rng.permutation(len(found))]


def spelled_out(
    case: Case, hypothesis: Stated, arguments: dict[str, Any], context: "Context", words: list[str]
) -> dict[str, Any]:
    """The test of a hypothesis as the tool takes it: each word that fits, or each that does not if those are more,
    beside one of the others that is at most twice as frequent or rare, in a place of a text that was not shown.

    By the hypothesis the words matter, by the dull one they do not. ValidationError for another form; UserError where
    there are no two words on either side, so that the hypothesis says nothing of these words.
    """
    from tools.lookup.minimal_pairs import Pair
    from tools.workbench.lexicon import lexicon

    assert case.latent is not None, "this form is about a latent"
    chosen = set(arguments["fits"] if hypothesis.holds else Fits.model_validate(arguments).fits)
    fit, other = ([word for word in words if (word in chosen) is which] for which in (True, False))
    frequent = lexicon(context.subject, context.need_harvest(), case.latent, context.seed).as_frequent
    found = places(context, case.latent)
    found.sort(key=lambda place: not place[0].endswith(" "))  # where a word stood, as long as there is such a place
    more, fewer = (fit, other) if len(fit) >= len(other) else (other, fit)
    used = Counter[str]()
    pairs: list[dict[str, str]] = []
    for number, word in enumerate(more[:MOST]):
        beside = sorted((each for each in fewer if frequent(word, each)), key=lambda each: used[each])
        if not beside:
            continue
        cause, instead = (word, beside[0]) if more is fit else (beside[0], word)
        for before, after in [found[(number + turn) % len(found)] for turn in range(len(found))]:
            pair = {"text": f"{before}{cause}{after}", "cause": cause, "instead": instead}
            tight = not all(fits((before, after), each) for each in (cause, instead))
            if not tight and _fits(Pair, pair) and Pair(**pair).start == len(before):
                pairs.append(pair)
                used[beside[0]] += 1
                break
    if min(len({pair[which] for pair in pairs}) for which in ("cause", "instead")) < 2 if pairs else True:
        raise UserError("Nearly none of the words fit, or nearly all do.")
    dull = [label for label in open_labels(case) if (h := case.hypothesis(label)) and h.dull]
    expect = [{"hypothesis": hypothesis.label, "comparison": Comparison.AT_LEAST}]
    expect += [{"hypothesis": label, "comparison": Comparison.LESS} for label in dull]
    return {"input": {"pairs": pairs}, "expect": expect}


def fired(tests: list[Experiment]) -> str:
    """On which of the words tried the latent fired, in a sentence."""
    from tools.workbench.lexicon import LEAST

    yes: dict[str, None] = {}
    no: dict[str, None] = {}
    for test in tests:
        output = test.output or {}
        for pair, reading in zip(test.input["pairs"], output["pairs"], strict=True):
            for word, peak in ((pair["cause"], "with_cause"), (pair["instead"], "without_cause")):
                (yes if reading[peak] >= LEAST * output["harvest_max"] else no)[word] = None
    silent = [word for word in no if word not in yes]
    return f"It fired on {', '.join(yes) or 'none'}; not on {', '.join(silent) or 'none'}."


def _fits(model: type[BaseModel], values: dict[str, str]) -> bool:
    try:
        model.model_validate(values)
    except ValidationError:
        return False
    return True
