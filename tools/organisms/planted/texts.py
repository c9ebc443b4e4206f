"""Held-out texts: sentences made from frames with slots, written for this project and in no corpus."""

import re
from collections.abc import Sequence

import numpy as np

SLOT = re.compile(r"\{(\w+)\}")
TRIES = 40  # sentences drawn for each one wanted, at most


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April June July August September October November December")
NAMES = words(
    "Anna Peter Maria Thomas Laura Michael Sarah Robert Julia Martin Emma Richard Alice Charles Helen Steven "
    "George Linda Kevin Nancy Brian Susan Edward Karen James John David William Mary Joseph Paul Mark Daniel "
    "Elizabeth Jennifer Barbara Margaret Andrew Christopher Matthew Anthony Simon Rachel Rebecca Hannah Henry Jack "
    "Frank Walter Arthur Oliver Lucy Kate Jane Tom Jim Bill Mike Harry Sam Ben Peggy Oscar"
)
SLOTS: dict[str, Sequence[str]] = {
    "weekday": WEEKDAYS,
    "month": MONTHS,
    "name": NAMES[:24],
    "city": words("Lisbon Boston Oslo Madrid Chicago Vienna Dublin Toronto Prague Sydney"),
    "animal": words("dog horse goose donkey rabbit spider parrot goat"),
    "thing": words("bridge boiler wardrobe lantern piano ladder parcel window carpet engine"),
    "people": words("neighbours nurses farmers painters drivers teachers guests players"),
    "adjective": words("small old heavy quiet narrow broken cheap bright"),
    "verb": words("repaired painted sold measured hid found cleaned borrowed"),
    "food": words("soup bread cheese rice honey cabbage"),
    "digit": words("2 3 4 5 6 7 8 9"),
    "number": words("12 14 15 18 25 30 45 60 75 80"),
    "year": words("1912 1936 1954 1968 1975 1989 1997 2004 2011 2016"),
    "count": words("few several many some countless"),
    "unit": words("kg km cm miles hours minutes percent feet pounds seconds"),
    "negation": words("not never"),
    "abbreviation": words("WHO NATO BBC FBI UNESCO MIT DNA IBM"),
    "function": words("read_lines parse_header count_words open_door send_mail total area"),
    "french": (
        "Nous avons mangé dans une petite auberge avec des amis",
        "Les enfants jouent dans la rue et leur mère est très fatiguée",
        "Elle n'est pas venue avec nous, mais elle a écrit une longue lettre",
        "Ce livre est pour vous et pour les membres de votre famille",
        "Les ouvriers sont partis avec une échelle et des outils",
        "Vous pouvez ouvrir une fenêtre, mais pas les deux en même temps",
    ),
    "foreign": (
        "Hemos comido en una pequeña posada con unos amigos",
        "Los niños juegan en la calle y su madre está muy cansada",
        "Das Buch liegt auf dem Tisch, und die Kinder spielen im Garten",
        "Abbiamo mangiato in una piccola trattoria con alcuni amici",
        "Eles voltaram para casa com muita fome e pouco dinheiro",
        "Zij woont al jaren in een klein huis bij de zee",
    ),
}


def fill(frame: str, rng: np.random.Generator) -> str:
    """`frame` with every {slot} replaced by a word of that slot; {slot1} and {slot2} are different words of it."""
    taken: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        slot = match[1]
        if slot not in taken:
            kind = slot.rstrip("0123456789")
            left = [w for w in SLOTS[kind] if w not in {v for k, v in taken.items() if k.startswith(kind)}]
            taken[slot] = str(rng.choice(left))
        return taken[slot]

    return SLOT.sub(word, frame)


def written(frames: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """Up to `n` different texts, the frames taken in turn."""
    found: dict[str, None] = {}
    for turn in range(n * TRIES):
        if len(found) == n:
            break
        found[fill(frames[turn % len(frames)], rng)] = None
    return list(found)
