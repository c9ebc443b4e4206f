"""Texts of two classes, and texts to test on that have either of two attributes besides."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from store.types import Noun
from tools.workbench.registry import ToolError

LEAST, LEAST_GROUP = 10, 8  # texts of a class to train on, of a group to test on

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class Labelled(Noun):
    text: Text
    label: Name


class Tested(Labelled):
    attribute: Name


def two_by_two(train: Sequence[Labelled], test: Sequence[Tested]) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two classes and the two attributes. ToolError, in a sentence, for texts that do not serve."""
    classes = sorted({each.label for each in train})
    attributes = sorted({each.attribute for each in test})
    if len(classes) != 2:
        raise ToolError(f"The training texts have {len(classes)} labels ({_some(classes)}): give texts of two.")
    if strange := sorted({each.label for each in test} - set(classes)):
        raise ToolError(f"The label {strange[0]!r} of a test text is none of {_some(classes)}: correct it.")
    if len(attributes) != 2:
        raise ToolError(f"The test texts have {len(attributes)} attributes ({_some(attributes)}): give two.")
    for label in classes:
        if (n := sum(each.label == label for each in train)) < LEAST:
            raise ToolError(f"There are {n} training texts labelled {label!r}: give {LEAST} or more.")
        for attribute in attributes:
            n = sum((each.label, each.attribute) == (label, attribute) for each in test)
            if n < LEAST_GROUP:
                raise ToolError(
                    f"There are {n} test texts of {label!r} with {attribute!r}: give {LEAST_GROUP} or more."
                )
    if both := {each.text for each in train} & {each.text for each in test}:
        raise ToolError(
            f"{len(both)} texts are both trained and tested on, such as {min(both)[:60]!r}: leave them out."
        )
    return (classes[0], classes[1]), (attributes[0], attributes[1])


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) or "none"
