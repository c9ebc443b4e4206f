"""Two more tools for the menu of a test: one that takes its time, one that will not be quiet."""

import os
import time

from tools.workbench.compute import go_on
from tools.workbench.context import Context
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    seconds: float = 0


class Output(ToolOutput):
    seconds: float


@tool(version=1, estimate=lambda input, context: input.seconds)
def wait(input: Input, context: Context) -> Output:
    """Computes for so many seconds, a forward pass every 10 ms."""
    end = time.monotonic() + input.seconds
    while time.monotonic() < end:
        go_on()
        time.sleep(0.01)
    return Output(seconds=input.seconds)


@tool(version=1)
def chatter(input: Input, context: Context) -> Output:
    """Prints on stdout in every way there is."""
    print("chatter")
    os.write(1, b"chatter\n")
    os.system("echo chatter")
    return Output(seconds=0)
