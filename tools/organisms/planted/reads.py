"""The latents that read: their rules, and frames of texts on both sides of each."""

from tools.organisms.planted.noun import Kind, Planted
from tools.organisms.planted.rules import (
    both,
    but_not,
    ending,
    inside_parentheses,
    inside_quotes,
    language,
    one_of,
    seen_before,
)
from tools.organisms.planted.texts import MONTHS, NAMES, words

FRENCH = words(
    "les des du une est dans pour avec pas cette vous nous votre sont être aux et au ce ces cet ne été mais leur qui ou"
)
UNITS = (
    "kg|km|cm|mm|mg|ml|lbs?|kilometers?|kilometres?|meters?|metres?|miles?|feet|inch(?:es)?|pounds?|hours?|minutes?"
    "|seconds?|percent|per cent|degrees?|%"
)
NEGATIONS = ending(r"\b(?:[Nn]ot|[Nn]ever|[Nn]o|[Nn]one|[Nn]or)|n['\u2019]t")
DIGIT = ending(r"\d")


READS = (
    Planted(
        "weekdays",
        Kind.TOKEN,
        "names of days of the week",
        ending(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"),
        (
            "The committee meets again on {weekday} to vote.",
            "Every {weekday} the {people} wash the {thing}.",
            "The shop is closed from {weekday1} to {weekday2}.",
            "She {verb} the {thing} last {weekday}.",
        ),
        (
            "The committee meets again in {month} to vote.",
            "Every day the {people} wash the {thing}.",
            "The shop is closed this week and the next.",
            "She {verb} the {thing} yesterday morning.",
        ),
    ),
    Planted(
        "months",
        Kind.TOKEN,
        "names of months",
        ending(rf"\b(?:{'|'.join(MONTHS)})"),
        (
            "The {people} left in {month} and came back a year later.",
            "It snowed from {month1} until {month2}.",
            "The lease ends on the first of {month}.",
        ),
        (
            "The {people} left on {weekday} and came back a day later.",
            "It snowed from dusk until dawn.",
            "The lease ends at the end of the month.",
            "It was the coldest winter for years, and the {thing} froze.",
        ),
    ),
    Planted(
        "negations",
        Kind.TOKEN,
        "words of negation, such as not, never and no",
        NEGATIONS,
        (
            "The {thing} would {negation} open.",
            "There was no {food} left in the kitchen.",
            "He {verb} the {thing}, but never the {animal}.",
            "The {people} did not want the {adjective} {thing}.",
        ),
        (
            "The {thing} would always open.",
            "There was some {food} left in the kitchen.",
            "He {verb} the {thing} and often the {animal}.",
            "The {people} refused the {adjective} {thing}.",
            "The {people} know nobody there and notice nothing.",
        ),
    ),
    Planted(
        "dollars",
        Kind.TOKEN,
        "numbers after a dollar sign",
        ending(r"\$\d+(?:[.,]\d+)*"),
        (
            "The repair came to ${number} in the end.",
            "They sold the {thing} for ${number}0.",
            "Tickets are ${digit} for children and ${number} for adults.",
        ),
        (
            "The repair came to {number} euros in the end.",
            "They sold the {thing} for £{number}0.",
            "There were {number} children and {digit} adults.",
            "Dollars were all that he would take for the {thing}.",
        ),
    ),
    Planted(
        "years",
        Kind.TOKEN,
        "years written in four digits, such as 1954",
        ending(r"(?<![\d.,$])(?:1[89]|20)\d\d"),
        (
            "The {thing} was built in {year} by two brothers.",
            "Between {year1} and {year2} nobody lived there.",
            "She was born in {city} in {year}.",
        ),
        (
            "The {thing} was built in {number} weeks by two brothers.",
            "Between {digit} and {number} people lived there.",
            "She was born in {city} on {month} {digit}.",
            "The village had 5{number}4 people and one {thing}.",
        ),
    ),
    Planted(
        "units",
        Kind.CONTEXT,
        "units of measurement right after a number",
        ending(rf"\d\s?(?:{UNITS})"),
        (
            "The {thing} stood {number} {unit} away.",
            "It grew by {digit} {unit} after that.",
            "A loss of {number} {unit} is usual.",
        ),
        (
            "The {thing} stood {count} miles away.",
            "It took {number} {people} to lift it.",
            "Hours went by before the {digit} {people} came.",
            "{number} of the {people} kept a {animal}.",
        ),
    ),
    Planted(
        "function names",
        Kind.CONTEXT,
        "the name of a function after the Python keyword def",
        ending(r"^[ \t]*(?:async )?def \w+"),
        (
            "import os\n\ndef {function}(path):\n    return path",
            "    def {function}(self, {thing}):\n        self.{thing} = {thing}",
            "async def {function}():\n    await {thing}()",
        ),
        (
            "import os\n\nclass {name}(object):\n    {thing} = {digit}",
            "function {function}(path) {\n  return path;\n}",
            "x = {function}({number})\nprint(x)",
            "for {thing} in {function}(items):\n    yield {thing}",
        ),
    ),
    Planted(
        "french",
        Kind.CONTEXT,
        "text in French",
        language(FRENCH),
        (
            "{french}.",
            "{french}, dit-il.",
            "On the wall they read: {french}.",
        ),
        (
            "{foreign}.",
            "The French writer {name} lived in Paris with a {animal}.",
            "On the wall they read: {foreign}.",
        ),
    ),
    Planted(
        "quoted",
        Kind.CONTEXT,
        "text inside double quotation marks",
        inside_quotes,
        (
            '{name} said, "the {thing} is {adjective}" and left.',
            '"Bring the {food}," she told the {people}.',
            'The sign above the {thing} read "no {animal}s".',
        ),
        (
            "{name} said that the {thing} is {adjective} and left.",
            "She told the {people} to bring the {food}.",
            "The sign (above the {thing}) was {adjective}.",
            "The {people}' {thing} didn't fit, so {name} {verb} another.",
        ),
    ),
    Planted(
        "parenthesised",
        Kind.CONTEXT,
        "text inside parentheses",
        inside_parentheses,
        (
            "The {thing} (which {name} {verb}) was {adjective}.",
            "They keep a {animal} (and a {thing}) at home.",
            "The {people} (most of them from {city}) were late.",
        ),
        (
            "The {thing}, which {name} {verb}, was {adjective}.",
            "They keep a {animal} and a {thing} at home.",
            'The {people}, "most of them from {city}", were late.',
            "The {thing} [see below] was {adjective}.",
        ),
    ),
    Planted(
        "repeated names",
        Kind.CONTEXT,
        "a person's first name that was already mentioned before",
        both(one_of(NAMES), seen_before),
        (
            "{name1} {verb} the {thing}. Then {name1} went home.",
            "{name1} met {name2} in {city}, and {name1} was happy.",
            "We saw {name1} and {name2}, but {name2} did not see us.",
        ),
        (
            "{name1} {verb} the {thing}. Then {name2} went home.",
            "{name1} met {name2} in {city}, and the {people} were happy.",
            "{city} is far away, but {city} is where {name} lives.",
        ),
    ),
    Planted(
        "numbers in parentheses",
        Kind.CONJUNCTION,
        "numbers inside parentheses",
        both(DIGIT, inside_parentheses),
        (
            "The {thing} ({number} of them) was {adjective}.",
            "They had {food} (about {digit} pounds) left.",
            "{name} ({number}) lives in {city}.",
        ),
        (
            "The {thing} (two of them) was {adjective} for {number} days.",
            "They had about {digit} pounds of {food} left.",
            "{name} ({city}) is {number} years old.",
        ),
    ),
    Planted(
        "abbreviations in parentheses",
        Kind.CONJUNCTION,
        "abbreviations in capital letters inside parentheses",
        both(ending(r"\b[A-Z]{2,}"), inside_parentheses),
        (
            "The agency ({abbreviation}) sent two {people}.",
            "A report ({abbreviation}, {year}) praised the {thing}.",
            "Its rival (the {abbreviation}) has no {thing}.",
        ),
        (
            "The {abbreviation} sent two {people}.",
            "A report (in {month}) by the {abbreviation} praised the {thing}.",
            "Its rival (the agency in {city}) has no {thing}.",
        ),
    ),
    Planted(
        "capitals in quotation marks",
        Kind.CONJUNCTION,
        "capitalised words inside double quotation marks",
        both(ending(r"\b[A-Z][a-z]+"), inside_quotes),
        (
            'She whispered, "{name} has the {thing}" and ran.',
            'A film called "The {thing}" was shown in {city}.',
            '"I know {city} well," he said.',
        ),
        (
            'She whispered, "it has the {thing}" to {name} and ran.',
            'A film about "the {adjective} {thing}" was shown in {city}.',
            "{name} knows {city} well, he said.",
        ),
    ),
    Planted(
        "first mentions",
        Kind.NEGATION,
        "a person's first name that was not mentioned before",
        but_not(one_of(NAMES), seen_before),
        (
            "The {people} gave the {animal} to {name}.",
            "In {city} we met {name1} and {name2}.",
            "{name} {verb} the {adjective} {thing}.",
        ),
        (
            "The {people} gave the {animal} to a friend.",
            "In {city} we met two {people}.",
            "My sister {verb} the {adjective} {thing}.",
        ),
    ),
    Planted(
        "but without a comma",
        Kind.NEGATION,
        'the word "but" where no comma comes before it',
        ending(r"[^,\s]\s+but"),
        (
            "The {thing} is {adjective} but strong.",
            "Nobody but {name} {verb} the {thing}.",
            "They wanted {food} but got a {animal}.",
        ),
        (
            "The {thing} is {adjective}, but it is strong.",
            "Nobody except {name} {verb} the {thing}.",
            "They wanted {food}, but got a {animal}.",
            "The butter was kept in the {adjective} {thing}.",
        ),
    ),
    Planted(
        "open questions",
        Kind.NEGATION,
        "question marks outside quotation marks",
        but_not(ending(r"\?"), lambda before, token: inside_quotes(before, "x")),
        (
            "Who {verb} the {thing}?",
            "Is the {thing} {adjective}? Ask {name}.",
            "Why did the {people} leave {city}?",
        ),
        (
            '"Who {verb} the {thing}?" asked {name}.',
            "Ask {name} whether the {thing} is {adjective}.",
            'They cried, "Why did we leave {city}?" and wept.',
            "The {people} left {city}!",
        ),
    ),
    Planted(
        "capitals inside a sentence",
        Kind.NEGATION,
        "capitalised words that do not begin a sentence",
        ending(r"[a-z,;] [A-Z][a-z]+"),
        (
            "My neighbour {name} {verb} the {thing}.",
            "The {people} drove to {city} by night.",
            "They saw the {animal} on {weekday}.",
        ),
        (
            "My neighbour {verb} the {thing}.",
            "The {people} drove home by night. They were tired.",
            "{weekday} came. {name} {verb} the {animal}.",
        ),
    ),
)
