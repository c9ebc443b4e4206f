"""A run in a sentence: what an LLM or a terminal shows of an experiment, whose full output stays in the ledger."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from agent.screen.show import clean
from store.types import Experiment

LONGEST = 480  # characters of a verdict
SHOWN_EXAMPLES, SHOWN_TOKENS = 5, 8
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
    verdict = output["verdict"] if isinstance(output.get("verdict"), str) else words(output)
    return Brief(_short(verdict), numbers(output), experiment.id, following)


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
    return "; ".join(f"{name} {value:.3g}" for name, value in numbers(output).items()) or "done"


def _profile(output: Output) -> str:
    if output["dead"]:
        return "dead: it never fires in the harvest"
    tokens = ", ".join(f"{t['token']!r} {t['mean']:.2g}" for t in output["top_tokens"][:SHOWN_TOKENS])
    return (
        f"fires on {output['density']:.2%} of tokens, mean {output['mean']:.2g}, maximum {output['max']:.3g}; "
        f"strongest on {tokens}"
    )


def _marked(example: dict[str, Any]) -> str:
    peak = max(example["activations"])
    pairs = zip(example["tokens"], example["activations"], strict=True)
    text = "".join(f"<<{t.strip() or t}>>" if peak > 0 and a >= FIRING * peak else t for t, a in pairs)
    at = max(text.find("<<"), 0)
    return text[max(0, at - 40) : at + 40].strip()


def _examples(output: Output) -> str:
    strong = [_marked(example) for example in output["top"][:SHOWN_EXAMPLES]]
    return f"fires on {output['density']:.2%} of tokens; strongest: " + " | ".join(strong)


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
    "top_examples": (_examples, ["minimal_pairs", "search_examples", "nearest_latents"]),
    "activate_on_text": (_readings, ["minimal_pairs"]),
    "latents_on_text": (_lit, ["latent_profile", "top_examples"]),
    "nearest_latents": (_near, ["top_examples"]),
    "direct_logit_effect": (_logits, ["explain_by_output"]),
    "search_examples": (_matches, ["minimal_pairs"]),
    "explain_latent": (_explanation, ["score_detection", "score_fuzzing"]),
    "explain_by_output": (_explanation, ["direct_logit_effect"]),
    "neuron_to_graph": (_explanation, ["score_prediction"]),
    "score_detection": (_score, ["minimal_pairs"]),
    "score_fuzzing": (_score, ["minimal_pairs"]),
    "score_prediction": (_score, ["minimal_pairs"]),
}
