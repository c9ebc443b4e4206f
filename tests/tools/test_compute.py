"""Computing: one at a time, beside the event loop, and no longer than somebody waits for it."""

import asyncio
import time

from tools.workbench.compute import alone, go_on
from tools.workbench.subject import Subject

HOUR_S = 3600.0
SOON_S = 10.0


def compute_for(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        go_on()
        time.sleep(0.005)
    return "done"


async def given_up(*calls: asyncio.Task[object]) -> None:
    """Cancels the calls once they have begun, and waits until the device is free again."""
    await asyncio.sleep(0.1)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert all(call.cancelled() for call in calls)
    async with asyncio.timeout(SOON_S):
        assert await alone(compute_for, 0.0) == "done"


def test_a_computation_ends_when_its_caller_does_also_one_that_waits_its_turn() -> None:
    async def calls() -> None:
        await given_up(*(asyncio.create_task(alone(compute_for, HOUR_S)) for _ in range(2)))

    asyncio.run(calls())


def test_outside_of_a_computation_nothing_is_given_up() -> None:
    go_on()
    assert asyncio.run(alone(compute_for, 0.02)) == "done"


def test_every_forward_pass_of_the_model_can_be_the_last(subject: Subject) -> None:
    tokens = subject.to_tokens("The cat sat on the mat.")

    def without_end() -> None:
        while True:
            subject.residual(tokens)

    async def calls() -> None:
        await given_up(asyncio.create_task(alone(without_end)))

    asyncio.run(calls())
    assert subject.residual(tokens).shape[1] == tokens.shape[1]
