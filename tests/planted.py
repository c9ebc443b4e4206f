"""Snippets with known answers: what a feature fires on, marked <<so>>, and hard negatives that it does not fire on.

`explain` is shown to the explainer; `positive` and `negative` are for judges. In a negative the mark stands on a token
that an explanation of the task does not describe. Written for this project.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """One planted feature: its true explanation and its snippets."""

    truth: str
    explain: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]


PLANTED = {
    "days": Planted(
        "names of days of the week",
        (
            "The committee meets again on <<Tuesday>> to vote on the budget.",
            "Opening hours: <<Monday>> to <<Thursday>>, 9 am to 5 pm",
            "He was arrested late on <<Friday>> after a chase through the town.",
            "Every <<Sunday>> the bells of the village wake us at seven.",
            "The match was moved from <<Saturday>> to <<Wednesday>> because of rain.",
            "what are you doing next <<Friday>> night?",
        ),
        (
            "Rehearsals are held on <<Thursday>> evenings in the hall.",
            "Shares fell again on <<Monday>> after the report came out.",
            "the <<Sunday>> edition had a long story about the bridge",
            "If it rains on <<Saturday>> we will go to the museum instead.",
            "The bins are collected on <<Wednesday>> mornings.",
            "She started her new job last <<Tuesday>> and likes it.",
        ),
        (
            "Rehearsals are held in the <<evening>> at the town hall.",
            "The report is due in <<March>>, not in February.",
            "We see them twice a <<week>> during the summer.",
            "He was born in <<1954>> in a small town near the coast.",
            "The first <<day>> of the course is always the hardest.",
            "Tomorrow <<morning>> the train leaves an hour earlier.",
        ),
    ),
    "python_def": Planted(
        "the Python keyword def",
        (
            "import os\n\n<<def>> read_lines(path):\n    with open(path) as f:\n        return f.readlines()",
            "class Stack:\n    <<def>> __init__(self):\n        self.items = []",
            "    <<def>> push(self, item):\n        self.items.append(item)",
            "@cache\n<<def>> fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
            "    return total\n\n\n<<def>> main():\n    print('hello')",
            "async <<def>> fetch(url):\n    return await client.get(url)",
        ),
        (
            "import sys\n\n<<def>> usage():\n    sys.exit(2)",
            "class Point:\n    <<def>> norm(self):\n        return (self.x ** 2 + self.y ** 2) ** 0.5",
            "    yield line\n\n<<def>> count(words):\n    return len(words)",
            "@property\n    <<def>> name(self):\n        return self._name",
            "x = 3\n<<def>> double(v): return 2 * v",
            "    <<def>> test_empty(self):\n        self.assertEqual(parse(''), [])",
        ),
        (
            "import sys\nimport os\n\n<<for>> arg in sys.argv[1:]:\n    print(arg)",
            "class Point:\n    x: <<float>> = 0.0\n    y: float = 0.0",
            "function count(words) {\n  <<return>> words.length;\n}",
            "while True:\n    <<line>> = f.readline()\n    if not line: break",
            "<<if>> name == 'admin':\n    grant(user)",
            'int main(void) {\n  <<printf>>("hello");\n}',
        ),
    ),
    "dollars": Planted(
        "numbers after a dollar sign, amounts of money in dollars",
        (
            "The company paid $<<12>> million for the site.",
            "Tickets cost $<<25>> for adults and $<<10>> for children.",
            "He owes me $<<300>> and has not called since May.",
            "a fine of up to $<<5>>,<<000>> for each offence",
            "Sales rose to $<<48>> billion in the third quarter.",
            "I found it on sale for $<<19>>.99 at the corner shop",
        ),
        (
            "The repair came to $<<450>>, which was more than the car was worth.",
            "Donations of $<<20>> or more are welcome.",
            "The fund holds $<<3>> billion in bonds.",
            "She sold the painting for $<<900>> at the market.",
            "Each share pays a dividend of $<<2>> a year.",
            "Rent has gone up to $<<1>>,<<800>> a month.",
        ),
        (
            "The repair took <<45>> days, longer than anyone had feared.",
            "More than <<200>> people came to the meeting.",
            "The fund holds bonds from <<12>> countries.",
            "She sold the painting to a <<museum>> in Berlin.",
            "The temperature fell to <<5>> degrees overnight.",
            "He ran the distance in <<48>> minutes and came second.",
        ),
    ),
    "negation": Planted(
        "words of negation such as not, never and no",
        (
            "I do <<not>> think that this is a good idea.",
            "She had <<never>> seen the sea before.",
            "There is <<no>> reason to worry about it.",
            "They could <<not>> agree on a price.",
            "He <<never>> answered my letters, <<not>> even once.",
            "We have <<no>> plans to sell the house.",
        ),
        (
            "The door would <<not>> open, however hard he pushed.",
            "There was <<no>> milk left in the fridge.",
            "You should <<never>> leave a child alone in a car.",
            "It is <<not>> clear who wrote the letter.",
            "My father <<never>> spoke about the war.",
            "The law gives them <<no>> right to appeal.",
        ),
        (
            "The door would <<always>> open if he pushed hard enough.",
            "There was <<some>> milk left in the fridge.",
            "You should <<often>> check the oil in your car.",
            "It is <<clear>> who wrote the letter.",
            "My father <<often>> spoke about the war.",
            "The law gives them a <<right>> to appeal.",
        ),
    ),
    "german": Planted(
        "German words",
        (
            "He said: <<Ich>> <<habe>> <<keine>> <<Zeit>>, and left the room.",
            "<<Das>> <<Wetter>> <<ist>> <<heute>> <<schön>>.",
            "The sign read <<Bitte>> <<nicht>> <<rauchen>> in large letters.",
            "<<Wir>> <<gehen>> <<morgen>> <<ins>> <<Kino>>.",
            "<<Die>> <<Regierung>> <<hat>> <<gestern>> <<ein>> <<Gesetz>> <<beschlossen>>.",
            "Her last words were <<auf>> <<Wiedersehen>> and <<danke>>.",
        ),
        (
            "<<Der>> <<Zug>> <<fährt>> <<um>> <<acht>> <<Uhr>> <<ab>>.",
            "On the wall someone had written <<Freiheit>> <<und>> <<Arbeit>>.",
            "<<Sie>> <<wohnt>> <<seit>> <<Jahren>> <<in>> <<einer>> <<kleinen>> <<Stadt>>.",
            "He greeted everyone with <<guten>> <<Morgen>>.",
            "<<Können>> <<Sie>> <<mir>> <<bitte>> <<helfen>>?",
            "The book is called <<Die>> <<Verwandlung>> and was printed in 1915.",
        ),
        (
            "Le train <<part>> à huit heures du matin.",
            "On the wall someone had written <<freedom>> and work.",
            "Ella <<vive>> desde hace años en una ciudad pequeña.",
            "He greeted everyone with a cheerful <<good>> morning.",
            "¿Puede usted <<ayudarme>>, por favor?",
            "The German team <<won>> the match in the last minute.",
        ),
    ),
    "diseases": Planted(
        "names of diseases",
        (
            "Patients with <<diabetes>> were excluded from the trial.",
            "She was diagnosed with <<tuberculosis>> at the age of nine.",
            "the vaccine protects against <<measles>> and <<mumps>>",
            "An outbreak of <<cholera>> killed hundreds in the camp.",
            "He died of <<pneumonia>> in the winter of 1891.",
            "Smoking is the main cause of lung <<cancer>>.",
        ),
        (
            "The mosquito spreads <<malaria>> and dengue fever.",
            "Children with <<asthma>> should avoid the dust.",
            "New drugs against <<hepatitis>> are very costly.",
            "Her grandmother suffers from <<arthritis>> in both hands.",
            "In 1918 <<influenza>> spread around the world.",
            "Screening for <<leukaemia>> is done with a blood test.",
        ),
        (
            "The mosquito lays its <<eggs>> in standing water.",
            "Children with good <<marks>> may skip the test.",
            "New drugs are tested on <<volunteers>> first.",
            "The hospital hired two <<surgeons>> and a nurse.",
            "The surgeon washed her <<hands>> before the operation.",
            "A blood <<test>> is done before every donation.",
        ),
    ),
    "countries": Planted(
        "names of countries",
        (
            "The president of <<France>> flew to <<Japan>> on Monday.",
            "Coffee from <<Brazil>> and <<Kenya>> is roasted here.",
            "He grew up in <<Poland>> and studied in <<Canada>>.",
            "Border talks between <<India>> and <<China>> broke down.",
            "Flights to <<Egypt>> are cancelled until further notice.",
            "The world cup was won by <<Argentina>>.",
        ),
        (
            "Most of the oil is shipped to <<Italy>>.",
            "She spent two years teaching in <<Vietnam>>.",
            "The embassy of <<Norway>> is closed today.",
            "<<Mexico>> has signed the treaty.",
            "Wages in <<Spain>> rose by three per cent.",
            "The team from <<Ghana>> won both games.",
        ),
        (
            "Most of the oil is shipped to <<Hamburg>>.",
            "She spent two years <<teaching>> in a village school.",
            "The embassy is <<closed>> today because of the strike.",
            "The <<senate>> has signed the treaty.",
            "Wages in the <<north>> rose by three per cent.",
            "The <<home>> team won both games.",
        ),
    ),
    "questions": Planted(
        "question marks",
        (
            "Where did you put my keys<<?>>",
            "How much does it cost<<?>> Nobody knows.",
            "Is it true that the shop is closing<<?>>",
            "Why not try it yourself<<?>> It is free.",
            "'Are you coming<<?>>' she asked from the hall.",
            "What is the capital of this country<<?>> And who chose it<<?>>",
        ),
        (
            "Did anyone see the film last night<<?>>",
            "Who wrote this song<<?>> I like it a lot.",
            "'Is there any soup left<<?>>' he asked.",
            "When will the results be published<<?>>",
            "Can you hear me now<<?>>",
            "So what should we do about it<<?>> Wait and see.",
        ),
        (
            "I asked whether anyone saw the film last night<<.>>",
            "Tell me who wrote this song<<.>> I like it a lot.",
            "'There is some soup left<<!>>' he cried.",
            "The results will be published in June<<.>>",
            "You can hear me now<<,>> I hope.",
            "He wondered what they should do about it<<.>>",
        ),
    ),
}


def unmarked(snippet: str) -> str:
    return snippet.replace("<<", "").replace(">>", "")
