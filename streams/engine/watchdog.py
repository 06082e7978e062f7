"""Ends a worker that lives on without working (R8): Faust and aiokafka would let it hang for ever."""

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final, NamedTuple

import structlog

_log = structlog.get_logger(__name__)

NO_PROGRESS_S: Final = 60.0
EXIT_CODE: Final = 70


def end_process(name: str, error: BaseException) -> None:
    """End the process at once, so that nothing unrecorded is acknowledged (R3); whatever ran is found in the log."""
    _log.critical("the worker ends", cause=name, error=str(error))
    os._exit(EXIT_CODE)


class Sample(NamedTuple):
    """How a partition is doing. ``partition`` is the object of one assignment; ``finished`` counts finished records."""

    partition: Hashable
    finished: int
    is_waiting: bool
    is_excused: bool


class Progress:
    """Judges by samples whether work that waits gets done, in each partition (R8). Pure.

    Times are readings of one clock, in seconds. Nothing waiting is no reason, nor is an excuse: a task within its
    timeout or a live claim.
    """

    def __init__(self, limit_s: float = NO_PROGRESS_S) -> None:
        self._limit_s = limit_s
        self._since: dict[Hashable, tuple[int, float]] = {}

    def stuck(self, now: float, samples: Iterable[Sample]) -> tuple[Hashable, float] | None:
        """The first partition that made no progress for longer than the limit, and for how many seconds."""
        seen: dict[Hashable, tuple[int, float]] = {}
        found: tuple[Hashable, float] | None = None
        for partition, finished, is_waiting, is_excused in samples:
            known = self._since.get(partition)
            if known is None or known[0] != finished or not is_waiting or is_excused:
                known = finished, now
            seen[partition] = known
            if found is None and now - known[1] > self._limit_s:
                found = partition, now - known[1]
        self._since = seen
        return found


class LoopWatch:
    """A thread that notices when the event loop itself stands still, in a handler that never awaits.

    ``beat`` is called on the loop every second or so; ``limit_s`` is the longest time without. ``end`` is called in
    the thread.
    """

    def __init__(self, limit_s: float, end: Callable[[str, BaseException], None] = end_process) -> None:
        self._limit_s = limit_s
        self._end = end
        self._last = time.monotonic()
        self._stopped = threading.Event()

    def beat(self) -> None:
        """The loop is alive."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def run(self) -> None:
        """Watch until ``stop``."""
        while not self._stopped.wait(1.0):
            silent_s = time.monotonic() - self._last
            if silent_s > self._limit_s:
                text = f"the event loop stood still for {silent_s:.0f} s; a handler blocks instead of awaiting"
                self._end("watchdog", TimeoutError(text))
                return
