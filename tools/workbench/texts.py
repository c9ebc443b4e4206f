"""Token strings that add up to the text, and texts in which some tokens are marked."""

from collections.abc import Collection, Sequence

import numpy as np

from tools.workbench.subject import Subject

PARTIAL = "\N{REPLACEMENT CHARACTER}"  # how a token reads on its own when it holds part of a character
LONGEST_GROUP = 8  # tokens that may share characters

OPEN, CLOSE = "<<", ">>"


def pieces(subject: Subject, tokens: Sequence[int] | np.ndarray) -> list[str]:
    """What each token adds to the text, so that the pieces joined are the text decoded as a whole.

    A character spread over several tokens belongs to the last of them; those before it read as "".
    """
    strings = subject.token_strings(tokens)
    start = 0
    while start < len(strings):
        end = start + 1
        if PARTIAL in strings[start]:
            for end in range(start + 2, min(start + LONGEST_GROUP, len(strings)) + 1):
                whole = subject.tokenizer.decode([int(t) for t in tokens[start:end]])
                if PARTIAL not in whole:
                    strings[start:end] = [""] * (end - start - 1) + [whole]
                    break
            else:
                end = start + 1
        start = end
    return strings


def mark(strings: Sequence[str], marked: Collection[int]) -> str:
    """The text with each marked token between << and >>, its blank margins left outside.

    A marked token that reads as "" marks the next one that does not: the character it is part of. A << or >> of the
    text itself is spaced out, lest it be read as a mark.
    """
    text, pending = [], False
    for index, own in enumerate(strings):
        string = own.replace(OPEN, "< <").replace(CLOSE, "> >")
        pending = pending or index in marked
        if pending and string:
            body = string.strip() or string
            before, _, after = string.partition(body)
            body = f"{' ' * body.startswith('<')}{body}{' ' * body.endswith('>')}"
            text.append(f"{before}{OPEN}{body}{CLOSE}{after}")
            pending = False
        else:
            text.append(string)
    return "".join(text)
