"""The base model beside the subject: what a tuned model says counts only as far as its base does not say it too."""

from collections.abc import Callable
from typing import TypeVar

from tools.workbench.context import Context
from tools.workbench.registry import ToolError
from tools.workbench.subject import Subject

T = TypeVar("T")


def has_base(context: Context) -> bool:
    """Whether a base model is named, or lies beneath the subject's adapter."""
    return context.base is not None or context.subject.adapter is not None


def need_base(context: Context) -> None:
    """ToolError where there is no base model to compare with."""
    if not has_base(context):
        raise ToolError(
            f"{context.subject.name} has no adapter and no base model is named, so that there is nothing to compare it "
            "with: give --adapter, or the model it was tuned from as --base."
        )


def both(context: Context, read: Callable[[Subject], T]) -> tuple[T, T | None]:
    """What `read` finds in the subject, and in the base model (None: there is none)."""
    own = read(context.subject)
    if context.base is not None:
        return own, read(context.base)
    if context.subject.adapter is None:
        return own, None
    with context.subject.without_adapter():
        return own, read(context.subject)


def by_chance(context: Context, salt: object) -> Callable[[Callable[[Subject], T]], T] | None:
    """What reads the base model with a change as large as the adapter's that is about nothing (`Adapter.scrambled`);
    None where the adapter is not what the two models differ by."""
    adapter = context.subject.adapter
    if context.base is not None or adapter is None:
        return None
    weights = adapter.scrambled(context.rng("scrambled", salt))

    def read_by_chance(read: Callable[[Subject], T]) -> T:
        with adapter.wearing(weights):
            return read(context.subject)

    return read_by_chance
