"""What the scripted agent does on the planted world: an investigation of the latent that fires on colours."""

from typing import Any

from tests.tools.world import COLOUR, EVEN, FILLERS, ID

QUESTION = f"what does latent {COLOUR} do?"
SWAPS = (("red", "cat"), ("green", "dog"), ("blue", "river"), ("red", "cow"), ("blue", "bank"))
PAIRS = {"pairs": [{"text": f"ba {word} da", "cause": word, "instead": other} for word, other in SWAPS]}
SMALL_QUESTION = f"what does latent {EVEN} do?"
SEVENTH = [word.strip() for word in FILLERS if ID[word] % 7 == 0]  # on which that one fires
HELD = ["po", "say", "fay", "ru"]  # those of them that are not shown
SILENT = ["to", "mi", "fa", "pe", "no"]  # some that are offered beside them
OTHER_PAIRS = {"pairs": [{"text": f"du {word} mo", "cause": "mo", "instead": "re"} for word in ("red", "blue")]}


def expect(**comparisons: str) -> list[dict[str, Any]]:
    return [{"hypothesis": name, "comparison": comparison} for name, comparison in comparisons.items()]


def acts(**changes: Any) -> dict[str, Any]:
    """Acts by name, in the order of preference; H1 is right, the dull H2 is not."""
    return {
        "frame": {"about": "latent", "latent": COLOUR, "aim": "say on which words it fires"},
        "enough": {},
        "state_hypotheses": {
            "hypotheses": ["it fires on names of colours"],
            "dull": {"account": "position", "claim": "it fires on the second word"},
        },
        "minimal_pairs": {"input": PAIRS, "expect": expect(H1=">=", H2="<")},
        "finish": {"reading": "colours it is"},
        "conclude": {
            "claims": [
                {"sentence": "It fires on colours.", "hypothesis": "H1", "stance": "for", "evidence": ["E3"]},
                {"sentence": "Position is not it.", "hypothesis": "H2", "stance": "against", "evidence": ["E3"]},
                {"sentence": "It fires on few tokens.", "hypothesis": None, "stance": None, "evidence": ["E1"]},
                {"sentence": "Perhaps on paints, too.", "hypothesis": None, "stance": None, "evidence": []},
            ]
        },
    } | changes


def small_acts(**changes: Any) -> dict[str, Any]:
    """The form of a small LLM, which is asked for neither expectations nor claims: H1 is right, H2 is not."""
    stated = {"hypotheses": ["every seventh word", "it fires on words of one syllable."]}
    fits = [{"fits": [*HELD, "moon"]}, {"fits": SILENT}]
    return acts(**({"state_hypotheses": stated, "minimal_pairs": fits} | changes))
