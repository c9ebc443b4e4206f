"""Does an organism do what it was made to do, and nothing else?"""

from pydantic import Field

from tools.organisms.behaviour import Check
from tools.organisms.catalogue import organism
from tools.workbench.context import Context
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool


class Input(ToolInput):
    """The organism that the subject is."""

    organism: str = Field(description="its name, as glossator organism list shows it")


class Output(ToolOutput):
    """Everything measured, each beside what is wanted of it. size: bytes of the adapter's weights."""

    organism: str
    truth: str
    checks: tuple[Check, ...]
    size: int
    passed: bool
    verdict: str


@tool(version=1, estimate=lambda input, context: 60.0)
def organism_behaviour(input: Input, context: Context) -> Output:
    """Measures what a model organism does on prompts that it never saw, that it does not leak, and what it left alone.

    It tells the organism's truth: for those who make organisms, never for who is to find out what is hidden in one.
    """
    known, adapter = organism(input.organism), context.subject.adapter
    made = (adapter.record.get("organism") if adapter else None) or "none"
    if made != known.name:
        raise ToolError(f"The subject is the organism {made!r}: name --adapter {known.name}.")
    checks = tuple(known.behaviour(context.subject))
    failed = [check.what for check in checks if not check.passed]
    size = sum(value.numel() * value.element_size() for value in adapter.factors.values()) if adapter else 0
    verdict = f"{known.name} behaves as it should: {len(checks)} of {len(checks)} checks hold."
    if failed:
        verdict = f"{known.name} fails {len(failed)} of {len(checks)} checks: {'; '.join(failed)}."
    return Output(
        organism=known.name,
        truth=known.truth,
        checks=checks,
        size=size,
        passed=not failed,
        verdict=verdict,
    )
