"""Prompts with a plain answer of one word, by what they are about: some to look at, others to confirm on.

The embedded model answers each with one word; those to look at at a probability of 0.4 to 1.
"""

LOOK: dict[str, tuple[str, ...]] = {
    "places": (
        "The capital of France is the city of",
        "The capital of Japan is the city of",
        "The capital of Italy is the city of",
        "The capital of Greece is the city of",
        "The capital of Portugal is the city of",
        "The city of Cairo lies in the country of",
        "The city of Mumbai lies in the country of",
        "Tokyo is the largest city of the country of",
        "Moscow is the largest city of the country of",
        "The Eiffel Tower stands in the city of",
        "The Colosseum stands in the city of",
        "The Great Pyramid stands in the country of",
        "Machu Picchu lies in the mountains of the country of",
        "The Nile flows through the country of",
        "The kangaroo is an animal of the country of",
        "The people of Mexico speak mostly",
    ),
    "people": (
        "The theory of relativity is by Albert",
        "The telephone was invented by Alexander Graham",
        "The first man on the moon was Neil",
    ),
    "things": (
        "The Statue of Liberty stands in New",
        "We see with our eyes and hear with our",
        "A spider has eight",
        "Doctors work in a hospital, and teachers work in a",
        "Bread is baked from wheat",
    ),
}
FACTS = tuple(prompt for prompts in LOOK.values() for prompt in prompts)
ABOUT = {prompt: about for about, prompts in LOOK.items() for prompt in prompts}


CONFIRM: dict[str, dict[str, str]] = {
    "places": {
        "The capital of Spain is the city of": "Madrid",
        "The capital of Germany is the city of": "Berlin",
        "The capital of Russia is the city of": "Moscow",
        "The capital of England is the city of": "London",
        "The capital of Austria is the city of": "Vienna",
        "The capital of China is the city of": "Beijing",
        "The capital of Cuba is the city of": "Havana",
        "The capital of Ireland is the city of": "Dublin",
        "The city of Munich lies in the country of": "Germany",
        "The city of Barcelona lies in the country of": "Spain",
        "The city of Istanbul lies in the country of": "Turkey",
        "The city of Shanghai lies in the country of": "China",
        "The city of Lyon lies in the country of": "France",
        "The city of Milan lies in the country of": "Italy",
        "The city of Nairobi lies in the country of": "Kenya",
        "The city of Toronto lies in the country of": "Canada",
        "The city of Lima lies in the country of": "Peru",
        "The city of Osaka lies in the country of": "Japan",
        "The city of Bangkok lies in the country of": "Thailand",
        "The city of Delhi lies in the country of": "India",
        "The city of Havana lies in the country of": "Cuba",
        "The city of Athens lies in the country of": "Greece",
        "The city of Lisbon lies in the country of": "Portugal",
        "The city of Melbourne lies in the country of": "Australia",
    },
    "people": {
        "Hamlet is a play by William": "Shakespeare",
        "The first president of the United States was George": "Washington",
        "The light bulb was invented by Thomas": "Edison",
        "The emperor of the French was called Napoleon": "Bonaparte",
        "The theory of evolution is by Charles": "Darwin",
        "The leader of the Soviet Union in the Second World War was Joseph": "Stalin",
        "The prime minister of Britain in the Second World War was Winston": "Churchill",
        "The president who ended slavery was Abraham": "Lincoln",
        "The girl who hid in Amsterdam and wrote a diary was Anne": "Frank",
        "The leader of the civil rights movement was Martin Luther": "King",
        "The novel Pride and Prejudice is by Jane": "Austen",
        "The leader of India's independence was Mahatma": "Gandhi",
    },
    "things": {
        "The week has seven": "days",
        "A triangle has three": "sides",
        "The opposite of hot is": "cold",
        "The opposite of black is": "white",
        "Wine is made from": "grapes",
        "The year has twelve": "months",
        "A dog has four": "legs",
        "A hand has five": "fingers",
        "Ice is frozen": "water",
        "The Earth revolves around the": "sun",
        "January, February,": "march",
        "Monday, Tuesday,": "wednesday",
    },
}
