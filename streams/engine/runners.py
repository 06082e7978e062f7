"""Runs what the lanes give: a runner goes from item to item, another joins when a handler suspends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from streams.background import OnCrash, run_in_background
from streams.engine.guard import DeadlineSlot

ItemT = TypeVar("ItemT")

SLICE_S: Final = 0.005
"""How long runners go on before the loop's other work gets its turn, in seconds."""

_MOST_AT_ONCE: Final = 64


class Runners(Generic[ItemT]):
    """A pool of tasks that take items one after another.

    A handler that does not suspend costs no task of its own: the runner simply takes the next item. One ``call_soon``
    is armed while items wait; it fires only when the loop gets its turn, which means that a handler has suspended or
    the slice is over, and then starts further runners. All runners share one slice: a thousand handlers that return at
    once, because their upstream hung, would else keep the loop for a slice each. ``slots`` are the deadlines of all
    runners.
    """

    def __init__(
        self,
        take: Callable[[], ItemT | None],
        execute: Callable[[ItemT, DeadlineSlot], Awaitable[None]],
        on_crash: OnCrash,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._execute = execute
        self._on_crash = on_crash
        self._clock = clock
        self._slice_end = 0.0
        self._is_over = False
        self._armed = False
        self._at_once = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self.slots: set[DeadlineSlot] = set()

    def wake(self) -> None:
        """Something may be ready to run."""
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._armed = False
        self._slice_end = 0.0
        self._is_over = False
        for _ in range(self._at_once):
            item = self._take()
            if item is None:
                self._at_once = 1
                return
            task = run_in_background("runner", self._run(item), self._on_crash)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._at_once = min(self._at_once * 2, _MOST_AT_ONCE)
        self.wake()

    async def _run(self, item: ItemT | None) -> None:
        slot = DeadlineSlot(asyncio.current_task())
        self.slots.add(slot)
        try:
            await self._go_on(item, slot)
        finally:
            self.slots.discard(slot)

    async def _go_on(self, item: ItemT | None, slot: DeadlineSlot) -> None:
        now = self._clock()
        while item is not None:
            await self._execute(item, slot)
            began, now = now, self._clock()
            if now > self._slice_end:
                if self._is_over or (self._slice_end and now - began <= SLICE_S):
                    self._is_over = True
                    self._at_once = 1
                    self.wake()
                    return
                # The slice begins, or the handler has suspended, so the loop has had its turn.
                self._slice_end = now + SLICE_S
            item = self._take()
