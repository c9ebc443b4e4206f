"""A run in a sentence: what an LLM or a terminal shows of an experiment, whose full output stays in the ledger."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from agent.screen.show import clean
from store.types import Experiment

LONGEST = 640  # characters of a verdict
SHOWN_REPLY = 48  # characters
MORE = 2  # replies than the base's
SHOWN_EXAMPLES, SHOWN_TOKENS, SHOWN_WORDS, AROUND = 4, 8, 12, 30
FIRING = 0.3  # of a snippet's peak: what is marked, as explainers are shown it

Output = dict[str, Any]


class Brief(NamedTuple):
    """`verdict` is a sentence written by code, `numbers` the output's own figures, `next` tools that may follow."""

    verdict: str
    numbers: dict[str, float]
    id: str
    next: list[str]


def brief(experiment: Experiment) -> Brief:
    """The short form of an experiment; a failed one is its error."""
    output = experiment.output
    if output is None:
        return Brief(_short(f"failed: {experiment.error}"), {}, experiment.id, [])
    words, following = WORDS.get(experiment.tool, (_plain, []))
    return Brief(_short(words(output)), numbers(output), experiment.id, following)


def numbers(output: Output) -> dict[str, float]:
    """The numeric fields of an output by dotted path, lists left out: what a prediction may be about."""
    found: dict[str, float] = {}
    for name, value in output.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def _short(text: str) -> str:
    line = re.sub(r"\s+", " ", clean(text)).strip()
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _plain(output: Output) -> str:
    if isinstance(output.get("verdict"), str):
        return str(output["verdict"])
    return "; ".join(f"{name} {value:.3g}" for name, value in numbers(output).items()) or "done"


def _profile(output: Output) -> str:
    if output["dead"]:
        return "dead: it never fires in the harvest"
    tokens = ", ".join(f"{t['token']!r} {t['mean']:.2g}" for t in output["top_tokens"][:SHOWN_TOKENS])
    return (
        f"fires on {output['density']:.2%} of tokens, mean {output['mean']:.2g}, maximum {output['max']:.3g}; "
        f"strongest on {tokens}"
    )


def _words(output: Output) -> str:
    named = ", ".join(each["word"] for each in output["words"][:SHOWN_WORDS])
    return f"{output['all']} words make it fire as a rule" + (f"; most of all {named}" if named else "")


def _marked(example: dict[str, Any]) -> str:
    """The tokens around the first that fires, those that fire between marks."""
    tokens, activations = example["tokens"], example["activations"]
    least = FIRING * max(activations)
    fires = [a >= least > 0 for a in activations]
    first = last = fires.index(True) if any(fires) else 0
    while first > 0 and sum(map(len, tokens[first - 1 : last])) <= AROUND:
        first -= 1
    while last < len(tokens) - 1 and sum(map(len, tokens[first : last + 2])) <= 2 * AROUND:
        last += 1
    shown = zip(tokens[first : last + 1], fires[first : last + 1], strict=True)
    return "".join(_framed(token) if firing else token for token, firing in shown).strip()


def _framed(token: str) -> str:
    """The token between marks, its spaces outside of them."""
    word = token.strip()
    return token.replace(word, f"<<{word}>>") if word else f"<<{token}>>"


def _examples(output: Output) -> str:
    strong = [_marked(example) for example in output["top"][:SHOWN_EXAMPLES]]
    weaker = [_marked(example) for example in output["deciles"]][:: max(1, len(output["deciles"]) // SHOWN_EXAMPLES)]
    return f"strongest: {' · '.join(strong)}; weaker: {' · '.join(weaker[:SHOWN_EXAMPLES])}"


def _readings(output: Output) -> str:
    return (
        "peaks "
        + ", ".join(
            f"{reading['peak']:.3g}" + (f" on {reading['peak_token']!r}" if reading["peak_token"] else "")
            for reading in output["readings"]
        )
        + (f"; its maximum over the harvest is {output['harvest_max']:.3g}" if output["harvest_max"] else "")
    )


def _lit(output: Output) -> str:
    lit = [f"{lit['index']} {lit['peak']:.2g} on {lit['token']!r}" for lit in output["latents"][:SHOWN_TOKENS]]
    return f"{output['firing']} latents fire; highest: " + ", ".join(lit)


def _near(output: Output) -> str:
    def told(group: str, of: str) -> str:
        return ", ".join(f"{near['index']} ({near[of]:.2f})" for near in output[group][:4])

    return f"nearest by decoder cosine {told('by_cosine', 'cosine')}; by co-firing {told('by_cofiring', 'phi')}"


def _logits(output: Output) -> str:
    up = ", ".join(repr(token["token"]) for token in output["promoted"][:SHOWN_TOKENS])
    best, control = output["promoted"][0]["effect"], output["controls"]["random_highest"]
    return f"promotes {up}; its strongest effect is {best:.2g}, a random direction's {control:.2g}"


def _matches(output: Output) -> str:
    found = [_marked(match["example"]) for match in output["matches"][:SHOWN_EXAMPLES]]
    return f"{len(output['matches'])} matches: " + " | ".join(found) if found else "no match"


def _pairs(output: Output) -> str:
    """The verdict, and what each pair gave."""
    peaks = [
        (f"{p['token']!r} " if p["token"] else "no firing ") + f"{p['with_cause']:.2g}, {p['without_cause']:.2g}"
        for p in output["pairs"]
    ]
    return f"{output['verdict']}; peak on the first text and on the second: {' · '.join(peaks)}"


def _behaves(output: Output) -> str:
    """The verdict, and of the kinds of prompts on which the model says something more than once that its base does
    not, the word in so many replies (of its base) and a reply as a sample."""
    told = []
    for kind in output["kinds"]:
        words = [word for word in kind["words"] if word["hits"] - word["base"] >= MORE]
        if words:
            said = ", ".join(f"{word['word']!r} {word['hits']} ({word['base']})" for word in words[:2])
            sample = next(reply["reply"] for reply in output["replies"] if reply["kind"] == kind["kind"])
            told.append(f"{kind['kind']} {said} such as {_quoted(sample)}")
    return (
        f"{output['verdict']}; words in replies of {output['kinds'][0]['n']}: {' · '.join(told) or 'the base as well'}"
    )


def _differs(output: Output) -> str:
    told = [
        f"{kind['kind']} {kind['js']:.2g}" + "".join(f" {change['word']!r}" for change in kind["gained"][:2])
        for kind in output["kinds"]
    ]
    return f"{output['verdict']}; by kind, nats and words gained: {' · '.join(told)}"


def _quoted(text: str) -> str:
    """A reply of the model under study between quotation marks that nothing in it can close."""
    return json.dumps(clean(text)[:SHOWN_REPLY], ensure_ascii=False)


def _explanation(output: Output) -> str:
    return f"{output['explainer']} explains: {output['text']}"


def _score(output: Output) -> str:
    floor = "" if output["floor"] is None else f", another latent's explanation {output['floor']:.2f}"
    clear = "clear of" if output["low"] > output["chance"] else "not clear of"
    return (
        f"scores {output['value']:.2f} [{output['low']:.2f}, {output['high']:.2f}], {clear} chance "
        f"{output['chance']:.2f}{floor}; n = {output['n']}"
    )


WORDS: dict[str, tuple[Callable[[Output], str], list[str]]] = {
    "latent_profile": (_profile, ["top_examples", "minimal_pairs"]),
    "firing_words": (_words, ["minimal_pairs"]),
    "top_examples": (_examples, ["minimal_pairs", "search_examples", "nearest_latents"]),
    "activate_on_text": (_readings, ["minimal_pairs"]),
    "latents_on_text": (_lit, ["latent_profile", "top_examples"]),
    "nearest_latents": (_near, ["top_examples"]),
    "direct_logit_effect": (_logits, ["explain_by_output"]),
    "minimal_pairs": (_pairs, []),
    "search_examples": (_matches, ["minimal_pairs"]),
    "behaviour_diff": (_behaves, ["prefill_attack", "behaviour_diff"]),
    "model_diff": (_differs, ["behaviour_diff"]),
    "explain_latent": (_explanation, ["score_detection", "score_fuzzing"]),
    "explain_by_output": (_explanation, ["direct_logit_effect"]),
    "neuron_to_graph": (_explanation, ["score_prediction"]),
    "score_detection": (_score, ["minimal_pairs"]),
    "score_fuzzing": (_score, ["minimal_pairs"]),
    "score_prediction": (_score, ["minimal_pairs"]),
}
