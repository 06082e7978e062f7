"""Runs what the lanes give: a runner goes from item to item, another joins when a handler suspends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from streams.background import OnCrash, run_in_background

ItemT = TypeVar("ItemT")

SLICE_S: Final = 0.005
"""How long runners go on before the loop's other work gets its turn, in seconds."""

_MOST_AT_ONCE: Final = 64


class Runners(Generic[ItemT]):
    """A pool of tasks that take items one after another.

    A handler that does not suspend costs no task of its own: the runner simply takes the next item. One ``call_soon``
    is armed while items wait; it fires only when the loop gets its turn, which means that a handler has suspended or
    the slice is over, and then starts further runners.
    """

    def __init__(
        self, take: Callable[[], ItemT | None], execute: Callable[[ItemT], Awaitable[None]], on_crash: OnCrash
    ) -> None:
        self._take = take
        self._execute = execute
        self._on_crash = on_crash
        self._armed = False
        self._at_once = 1
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something may be ready to run."""
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._armed = False
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
        now = time.monotonic()
        end = now + SLICE_S
        while item is not None:
            await self._execute(item)
            began, now = now, time.monotonic()
            if now - began > SLICE_S:
                # The handler has suspended, so the loop has had its turn.
                end = now + SLICE_S
            elif now > end:
                self._at_once = 1
                self.wake()
                return
            item = self._take()
