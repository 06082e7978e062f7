"""Runners: every item is done, and the loop gets its turn however many handlers return at once."""

import asyncio
from collections import deque

from streams.engine.guard import DeadlineSlot
from streams.engine.runners import SLICE_S, Runners

SUSPENDED = 200
QUICK = 2000
STEP_S = SLICE_S / 10
"""What each item takes by the clock of these tests: a slice has room for ten."""

AWAY_S = 30.0


class Work:
    """Items that suspend until ``answer``, and items that do not."""

    def __init__(self) -> None:
        self.waiting: deque[bool] = deque()
        self.answer = asyncio.Event()
        self.done: list[bool] = []
        self.errors: list[BaseException] = []
        self.now_s = 1.0
        self._runners = Runners[bool](
            self._take, self._execute, lambda _name, error: self.errors.append(error), lambda: self.now_s
        )

    def offer(self, suspends: bool, count: int) -> None:
        self.waiting.extend([suspends] * count)
        self._runners.wake()

    async def until_taken(self) -> list[int]:
        """How many items were done in each turn of the loop, until none waits."""
        turns: list[int] = []
        while self.waiting:
            before = len(self.done)
            await asyncio.sleep(0)
            turns.append(len(self.done) - before)
        return turns

    def _take(self) -> bool | None:
        return self.waiting.popleft() if self.waiting else None

    async def _execute(self, suspends: bool, _slot: DeadlineSlot) -> None:
        if suspends:
            await self.answer.wait()
        self.now_s += STEP_S
        self.done.append(suspends)


async def test_the_loop_has_a_turn_after_each_slice() -> None:
    work = Work()
    work.offer(False, QUICK)
    turns = await work.until_taken()
    assert len(work.done) == QUICK
    assert not work.errors
    assert 5 < max(turns) <= 12


async def test_handlers_that_return_at_once_share_one_slice() -> None:
    work = Work()
    work.offer(True, SUSPENDED)
    await work.until_taken()
    work.now_s += AWAY_S
    work.offer(False, QUICK)
    work.answer.set()
    turns = await work.until_taken()
    # Beside those that return there is room for two slices, where one was armed before.
    assert max(turns) <= SUSPENDED + 24
    assert work.done.count(True) == SUSPENDED
