"""The base model beside the subject: what a tuned model says counts only as far as its base does not say it too."""

from collections.abc import Callable
from typing import TypeVar

from tools.workbench.context import Context
from tools.workbench.subject import Subject

T = TypeVar("T")


def has_base(context: Context) -> bool:
    """Whether a base model is named, or lies beneath the subject's adapter."""
    return context.base is not None or context.subject.adapter is not None


def both(context: Context, read: Callable[[Subject], T]) -> tuple[T, T | None]:
    """What `read` finds in the subject, and in the base model (None: there is none)."""
    own = read(context.subject)
    if context.base is not None:
        return own, read(context.base)
    if context.subject.adapter is None:
        return own, None
    with context.subject.without_adapter():
        return own, read(context.subject)
