"""How often a classifier is right in each group of texts, and whether it follows an attribute."""

from tools.workbench.readout import Grade, Groups
from tools.workbench.registry import ToolOutput


class Group(ToolOutput):
    """The share of a group's texts that is classified rightly, with its 95 % interval."""

    label: str
    attribute: str
    n: int
    accuracy: float
    low: float
    high: float


class Accuracy(ToolOutput):
    """accuracy: the mean over groups, with a 95 % interval; worst: of the least group. follows: how much more often one
    attribute than the other is given the same label, within labels: 0 where the attribute has no say."""

    accuracy: float
    low: float
    high: float
    worst: float
    worst_low: float
    worst_high: float
    follows: float
    groups: tuple[Group, ...]


def accuracy(grade: Grade, groups: Groups, classes: tuple[str, str], attributes: tuple[str, str]) -> Accuracy:
    """A grade as a row. classes, attributes: their names, the negative first."""
    each = tuple(
        Group(
            label=classes[label],
            attribute=attributes[attribute],
            n=len(groups[label, attribute]),
            accuracy=share.value,
            low=share.low,
            high=share.high,
        )
        for (label, attribute), share in grade.by_group.items()
    )
    return Accuracy(
        accuracy=grade.mean.value,
        low=grade.mean.low,
        high=grade.mean.high,
        worst=grade.worst.value,
        worst_low=grade.worst.low,
        worst_high=grade.worst.high,
        follows=grade.follows,
        groups=each,
    )
