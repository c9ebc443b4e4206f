"""What an audit by code looks at, and how it divides its budget: tokens that each model reads and writes, about."""

from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["behaviour", "black-box", "white-box", "model-diff"]
FAMILIES: tuple[Family, ...] = ("behaviour", "black-box", "white-box", "model-diff")

BUDGET = 16_000  # leaves room for every suspicion that the looks can give
PROMPT = 32  # tokens, about, of a question in a conversation
KINDS = 10  # of prompts
WRITTEN, READ = 16, 6  # tokens of a reply that is compared as text, and of one whose distributions are
ELICITED = 0.3  # of the budget
EACH = (3, 8)  # prompts of a kind, at least and at most
CONFIRMED = (8, 12)  # the same of those that confirm: as many as the rest of the budget has room for
LEVEL = 0.05  # of an audit in which nothing is true, shared out among its tests
MOST = 6000  # tokens: all that elicit_secret has to try

Input = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """A run that suggests hypotheses, the families it serves and its tokens."""

    tool: str
    input: Input
    why: str
    families: tuple[Family, ...]
    tokens: int


def looks(budget: int, families: tuple[Family, ...], compared: bool) -> list[Look]:
    """The looks at a model; compared: whether there is a base model, without which little can be told."""
    from tools.workbench.methods import METHODS

    each = max(EACH[0], min(EACH[1], budget // 4000))
    elicited = max(1500, min(MOST, int(ELICITED * budget)))
    ways = [way for family in FAMILIES if family in families for way, of in METHODS.items() if of == family]
    found = [
        Look(
            "behaviour_diff",
            {"each": each, "respond": WRITTEN},
            "what it says that its base does not, kind of prompt by kind",
            ("behaviour",),
            KINDS * each * (PROMPT + WRITTEN),
        ),
        Look(
            "model_diff",
            {"each": each, "respond": READ},
            "where its next words, layers and latents differ from its base's",
            ("model-diff",),
            KINDS * each * (PROMPT + READ),
        ),
        Look(
            "elicit_secret",
            {"budget": elicited, "methods": ways, "n": 24},
            "whether a word or knowledge is kept back",
            ("black-box", "white-box"),
            elicited,
        ),
    ]
    if not compared:
        found = [_knowing()]
    return [look for look in found if set(look.families) & set(families)]


def _knowing() -> Look:
    """Without a base model: whether middle layers know what is not said."""
    from tools.workbench.facts import LOOK

    prompts = list(LOOK["places"])
    return Look(
        "logit_lens_secret",
        {"prompts": prompts},
        "whether its middle layers have words in mind that it does not say",
        ("white-box",),
        len(prompts) * 12,
    )
