"""Prompts that differ in one cause, from templates: what circuits are looked for on.

Each corruption replaces a token by another of its kind, so that both prompts are ordinary text (symmetric token
replacement, Zhang & Nanda 2309.16042, section 3).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

Template = Literal["ioi", "greater_than", "capital", "agreement", "pronoun", "days", "months", "induction"]

WOMEN = ("Mary", "Sarah", "Anna", "Emily", "Laura", "Alice", "Jane", "Kate", "Susan", "Lisa")
MEN = ("John", "Tom", "James", "David", "Mark", "Paul", "Peter", "Michael", "Robert", "George")
PLACES = ("store", "park", "school", "office", "garden", "station")
THINGS = ("drink", "book", "letter", "ring", "ball", "basket")
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Germany": "Berlin",
    "England": "London",
    "Russia": "Moscow",
    "Spain": "Madrid",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Ireland": "Dublin",
    "Austria": "Vienna",
    "Cuba": "Havana",
    "Iran": "Tehran",
    "Thailand": "Bangkok",
    "Kenya": "Nairobi",
    "Portugal": "Lisbon",
    "Canada": "Ottawa",
}
NOUNS = ("key", "book", "boy", "girl", "car", "dog", "picture", "letter", "teacher", "door", "student", "machine")
BESIDE = ("near the old house", "behind the tall trees", "next to the table", "in the small rooms")
EVENTS = ("war", "project", "study", "strike", "voyage", "famine")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: tuple[str, ...] = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
)
MONTHS = (*MONTHS, "December")
WORDS: tuple[str, ...] = (
    "tree",
    "river",
    "lamp",
    "stone",
    "paper",
    "cloud",
    "bread",
    "horse",
    "glass",
    "road",
    "music",
    "table",
)
WORDS = (*WORDS, "fire", "green", "king", "snow", "chair", "bird", "gold")


FRAMES: dict[Template, str] = {  # of those whose words are fixed but for the slots
    "ioi": "When {IO} and {S1} went to the {place}, {S2} gave a {thing} to",
    "greater_than": "The {event} lasted from the year {century}{YEAR} to the year {century}",
    "capital": "The capital of {COUNTRY} is the city of",
    "pronoun": "So {NAME} is a really great {thing}, isn't",
    "days": "If today is {NOW}, then tomorrow is",
    "months": "The month that comes right after {NOW} is",
}


BOTH_RIGHT: tuple[Template, ...] = ("greater_than",)  # after the corrupted prompt either answer is right


class Candidate(NamedTuple):
    """A pair as its template makes it; roles: characters of the clean prompt up to the end of each slot."""

    clean: str
    corrupted: str
    answer: str
    other: str
    roles: dict[str, int]


Slots = Mapping[str, str]
Changed = tuple[Slots, str, str]  # what the corrupted prompt fills otherwise, the answer and the other


def candidates(template: Template, seed: int, most: int) -> Iterator[Candidate]:
    """At most `most` different pairs, the same for the same seed."""
    rng = np.random.default_rng([seed, sum(template.encode())])
    seen = set()
    for _ in range(most):
        made = _MAKE[template](rng)
        if made.clean not in seen:
            seen.add(made.clean)
            yield made


def fitting(text: str) -> Template | None:
    """The template that a prompt within this text is of, whatever fills its slots."""
    for template, frame in FRAMES.items():
        if re.search(re.sub(r"\\{\w+\\}", r"\\w[\\w ]*", re.escape(frame)), text):
            return template
    return None


def quoted(text: str) -> Candidate | None:
    """The pair whose clean prompt stands within this text, corrupted as its template does it; None where that takes
    words that the template does not know."""
    for template, change in _CHANGE.items():
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w[\\w ]*?)", re.escape(FRAMES[template]))
        found = re.search(pattern, text)
        if found and (changed := change(found.groupdict())):
            return _pair(FRAMES[template], found.groupdict(), *changed)
    return None


def _pair(frame: str, clean: Slots, corrupted: Slots, answer: str, other: str) -> Candidate:
    """`corrupted`: the slots that it fills otherwise. Slots written in lower case are no roles."""
    roles, end, at = {}, 0, 0
    for slot in re.finditer(r"{(\w+)}", frame):
        end += slot.start() - at + len(clean[slot[1]])
        at = slot.end()
        if not slot[1].islower():
            roles[slot[1]] = end
    return Candidate(frame.format(**clean), frame.format(**{**clean, **corrupted}), answer, other, roles)


def _two(rng: np.random.Generator, words: tuple[str, ...]) -> tuple[str, str]:
    a, b = rng.choice(len(words), 2, replace=False)
    return words[a], words[b]


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _ioi(rng: np.random.Generator) -> Candidate:
    """Indirect object identification (Wang et al. 2211.00593), the second subject replaced."""
    a, b = _one(rng, WOMEN), _one(rng, MEN)
    io, s = (a, b) if rng.random() < 0.5 else (b, a)
    slots = {"IO": io, "S1": s, "S2": s, "place": _one(rng, PLACES), "thing": _one(rng, THINGS)}
    return _pair(FRAMES["ioi"], slots, {"S2": io}, f" {io}", f" {s}")


def _other_subject(slots: Slots) -> Changed | None:
    io, s1, s2 = (slots[name] for name in ("IO", "S1", "S2"))
    return ({"S2": io}, f" {io}", f" {s1}") if s1 == s2 != io else None


def _greater_than(rng: np.random.Generator) -> Candidate:
    """Hanna et al. 2305.00586: the year must be later; as there, the century's beginning instead of a later year.

    The years compared are ten after and ten before the clean one, so that nearness does not tell them apart there. What
    is later than one year is later than any before it, so that no year could make the earlier one right and the later
    one wrong: on the corrupted prompt both are right, and far.
    """
    century, decade = f"1{rng.integers(1, 9)}", rng.integers(3, 8)
    slots = {"event": _one(rng, EVENTS), "century": century, "YEAR": f"{decade}5"}
    return _pair(FRAMES["greater_than"], slots, {"YEAR": "05"}, f"{decade + 1}5", f"{decade - 1}5")


def _capital(rng: np.random.Generator) -> Candidate:
    a, b = _two(rng, tuple(CAPITALS))
    return _pair(FRAMES["capital"], {"COUNTRY": a}, {"COUNTRY": b}, f" {CAPITALS[a]}", f" {CAPITALS[b]}")


def _other_country(slots: Slots) -> Changed | None:
    a = slots["COUNTRY"]
    b = next(country for country in CAPITALS if country != a)
    return ({"COUNTRY": b}, f" {CAPITALS[a]}", f" {CAPITALS[b]}") if a in CAPITALS else None


def _agreement(rng: np.random.Generator) -> Candidate:
    noun = _one(rng, NOUNS)
    verbs = (" is", " are") if rng.random() < 0.5 else (" are", " is")
    forms = (noun, f"{noun}s") if verbs[0] == " is" else (f"{noun}s", noun)
    slots = {"SUBJECT": forms[0], "beside": _one(rng, BESIDE)}
    return _pair("The {SUBJECT} {beside}", slots, {"SUBJECT": forms[1]}, *verbs)


def _pronoun(rng: np.random.Generator) -> Candidate:
    she, he = _one(rng, WOMEN), _one(rng, MEN)
    names, pronouns = ((she, he), (" she", " he")) if rng.random() < 0.5 else ((he, she), (" he", " she"))
    slots = {"NAME": names[0], "thing": _one(rng, ("friend", "cook", "player", "teacher", "writer", "driver"))}
    return _pair(FRAMES["pronoun"], slots, {"NAME": names[1]}, *pronouns)


def _other_sex(slots: Slots) -> Changed | None:
    for own, others, answer, other in ((WOMEN, MEN, " she", " he"), (MEN, WOMEN, " he", " she")):
        if slots["NAME"] in own:
            return {"NAME": others[0]}, answer, other
    return None


def _days(rng: np.random.Generator) -> Candidate:
    return _cycle(rng, DAYS, FRAMES["days"])


def _months(rng: np.random.Generator) -> Candidate:
    return _cycle(rng, MONTHS, FRAMES["months"])


def _cycle(rng: np.random.Generator, names: tuple[str, ...], frame: str) -> Candidate:
    a, b = (int(i) for i in rng.choice(len(names), 2, replace=False))
    after = [f" {names[(i + 1) % len(names)]}" for i in (a, b)]
    return _pair(frame, {"NOW": names[a]}, {"NOW": names[b]}, *after)


def _other_time(slots: Slots) -> Changed | None:
    names = next((names for names in (DAYS, MONTHS) if slots["NOW"] in names), None)
    if names is None:
        return None
    at = names.index(slots["NOW"])
    after = [f" {names[(at + ahead) % len(names)]}" for ahead in (1, 4)]
    return {"NOW": names[(at + 3) % len(names)]}, after[0], after[1]


def _induction(rng: np.random.Generator) -> Candidate:
    """A row of words without sense that begins again (Olsson et al. 2209.11895); the last word of it is replaced."""
    words = [WORDS[i] for i in rng.permutation(len(WORDS))[:8]]
    other = int(rng.choice([0, 1, 2, 3, 5, 6]))
    again = {f"again{i}": words[i] for i in range(4)}
    slots = {**{f"word{i}": word for i, word in enumerate(words)}, **again, "AGAIN": words[4]}
    frame = " ".join(f"{{{slot}}}" for slot in slots)
    return _pair(frame, slots, {"AGAIN": words[other]}, f" {words[5]}", f" {words[other + 1]}")


_MAKE = {
    "ioi": _ioi,
    "greater_than": _greater_than,
    "capital": _capital,
    "agreement": _agreement,
    "pronoun": _pronoun,
    "days": _days,
    "months": _months,
    "induction": _induction,
}

_CHANGE: dict[Template, Callable[[Slots], Changed | None]] = {
    "ioi": _other_subject,
    "capital": _other_country,
    "pronoun": _other_sex,
    "days": _other_time,
    "months": _other_time,
}
