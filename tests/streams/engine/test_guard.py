"""Whatever a handler does becomes a verdict."""

import asyncio
import time

import pytest

from handlers.results import Completed
from streams.engine.decide import TimedOut
from streams.engine.guard import DeadlineSlot, Stopped, run_guarded, sweep


class Running:
    def __init__(self) -> None:
        self.slot = DeadlineSlot()


async def test_a_result_and_an_exception_are_verdicts() -> None:
    async def good() -> Completed:
        return Completed({})

    async def bad() -> Completed:
        raise KeyError("x")

    assert await run_guarded(good(), DeadlineSlot(), 1) == Completed({})
    assert isinstance(await run_guarded(bad(), DeadlineSlot(), 1), KeyError)


async def test_a_timeout_is_a_verdict_and_leaves_the_runner_usable() -> None:
    running = Running()
    guarded = asyncio.create_task(_guard_then_sleep(running))
    await asyncio.sleep(0)
    sweep([running], time.monotonic() + 100)
    verdict, cancelling = await guarded
    assert isinstance(verdict, TimedOut)
    assert cancelling == 0


async def _guard_then_sleep(running: Running) -> tuple[object, int]:
    verdict = await run_guarded(asyncio.Event().wait(), running.slot, 5)
    # The next handler of the same runner must not find a cancellation that was meant for this one.
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    return verdict, task.cancelling()


async def test_a_slot_without_deadline_is_left_alone() -> None:
    running = Running()
    sweep([running], time.monotonic() + 100)
    assert running.slot.expired == 0


async def test_a_stop_gives_no_verdict() -> None:
    running = Running()
    guarded = asyncio.create_task(run_guarded(asyncio.Event().wait(), running.slot, 5))
    await asyncio.sleep(0)
    running.slot.cancel()
    with pytest.raises(Stopped):
        await guarded


async def test_a_handler_that_cancels_itself_is_a_failure() -> None:
    async def odd() -> None:
        raise asyncio.CancelledError

    assert isinstance(await run_guarded(odd(), DeadlineSlot(), 1), asyncio.CancelledError)
