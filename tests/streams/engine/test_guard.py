"""Whatever a handler does becomes a verdict."""

import asyncio
import time
from collections.abc import Awaitable

import pytest

from handlers.results import Completed
from schemas.errors import Retryable
from streams.engine.breaker import upstream_failure
from streams.engine.decide import TimedOut
from streams.engine.guard import DeadlineSlot, Stopped, run_guarded, sweep


def slot_here() -> DeadlineSlot:
    """The slot of the running task."""
    return DeadlineSlot(asyncio.current_task())


async def hang(task: object) -> None:
    await asyncio.Event().wait()


async def test_a_result_and_an_exception_are_verdicts() -> None:
    async def good(task: str) -> Completed:
        return Completed({"task": task})

    async def bad(task: str) -> Completed:
        raise KeyError(task)

    def worse(task: str) -> Awaitable[Completed]:
        raise TypeError(task)

    assert await run_guarded(good, "x", slot_here(), 1) == Completed({"task": "x"})
    assert isinstance(await run_guarded(bad, "x", slot_here(), 1), KeyError)
    assert isinstance(await run_guarded(worse, "x", slot_here(), 1), TypeError)


async def test_a_timeout_is_a_verdict_and_leaves_the_runner_usable() -> None:
    slots: list[DeadlineSlot] = []
    guarded = asyncio.create_task(_guard_two(slots))
    await asyncio.sleep(0)
    sweep(slots, time.monotonic() + 100)
    first, second, cancelling = await guarded
    assert isinstance(first, TimedOut)
    # The next handler of the same runner must not find a cancellation that was meant for this one.
    assert second == Completed({})
    assert cancelling == 0


async def _guard_two(slots: list[DeadlineSlot]) -> tuple[object, object, int]:
    async def good(task: str) -> Completed:
        await asyncio.sleep(0)
        return Completed({})

    slots.append(slot_here())
    first = await run_guarded(hang, "x", slots[0], 5)
    second = await run_guarded(good, "y", slots[0], 5)
    task = asyncio.current_task()
    assert task is not None
    return first, second, task.cancelling()


async def test_a_slot_without_deadline_is_left_alone() -> None:
    slot = slot_here()
    sweep([slot], time.monotonic() + 100)
    assert slot.expired == 0


async def test_a_stop_gives_no_verdict() -> None:
    slots: list[DeadlineSlot] = []

    async def run() -> None:
        slots.append(slot_here())
        await run_guarded(hang, "x", slots[0], 5)

    guarded = asyncio.create_task(run())
    await asyncio.sleep(0)
    slots[0].cancel()
    with pytest.raises(Stopped):
        await guarded


async def test_a_handler_that_cancels_itself_is_a_failure() -> None:
    async def odd(task: str) -> None:
        raise asyncio.CancelledError

    assert isinstance(await run_guarded(odd, "x", slot_here(), 1), asyncio.CancelledError)


class Odd(Exception):
    def __str__(self) -> str:
        raise KeyError(self.args[1])


class Busy(Retryable):
    code = "http_503"

    def __init__(self) -> None:
        """Leaves its base class without what that would set."""


async def test_an_error_that_cannot_say_what_it_is_ends_no_worker() -> None:
    async def odd(task: str) -> Completed:
        raise Odd(task)

    async def busy(task: str) -> Completed:
        raise Busy

    assert str(await run_guarded(odd, "x", slot_here(), 1)) == "Odd, whose text cannot be read: IndexError"
    failure = upstream_failure(await run_guarded(busy, "x", slot_here(), 1))
    assert failure is not None
    assert failure.retry_after_s is None
