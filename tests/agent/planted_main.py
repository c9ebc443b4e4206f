"""`python -m tests.agent.planted_main ARGUMENTS`: the command line on the planted world, with two more tools.

`wait` computes for so many seconds, a forward pass every 10 ms; `chatter` prints on stdout in every way there is.
"""

import os
import sys
import time

from tests.tools.world import PlantedSubject
from tools.dictionaries import load
from tools.workbench.compute import go_on
from tools.workbench.context import Context
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    seconds: float = 0


class Output(ToolOutput):
    seconds: float


@tool(version=1, estimate=lambda input, context: input.seconds)
def wait(input: Input, context: Context) -> Output:
    """Waits."""
    end = time.monotonic() + input.seconds
    while time.monotonic() < end:
        go_on()
        time.sleep(0.01)
    return Output(seconds=input.seconds)


@tool(version=1)
def chatter(input: Input, context: Context) -> Output:
    """Prints where a protocol or a document should stand alone."""
    print("chatter")
    os.write(1, b"chatter\n")
    os.system("echo chatter")
    return Output(seconds=0)


if __name__ == "__main__":
    from agent.cli import main

    load.load_subject = lambda *_, **__: PlantedSubject()  # type: ignore[assignment, return-value]
    sys.exit(main(sys.argv[1:]))
