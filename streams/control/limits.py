"""When a worker leaves by itself: after so many tasks, so long, with so much memory, or with nothing left to do."""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from streams.agents.tier import TierProcessor
from streams.engine.app import WorkerApp

EXIT_MEMORY: Final = 12
"""Exit code of a worker that left because of its memory; every other reason is 0."""

_LOOK_S: Final = 0.2


class StopReason(StrEnum):
    """Why a worker left in order, in the words of Laravel's ``queue:work``."""

    INTERRUPTED = "interrupted"
    RESTART = "restart_signal"
    MAX_JOBS = "max_jobs"
    MAX_TIME = "max_time"
    MEMORY = "memory"
    EMPTY = "empty"

    @property
    def exit_code(self) -> int:
        """The process's exit code."""
        return EXIT_MEMORY if self is StopReason.MEMORY else 0


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_time_s`` in seconds, ``memory_mib`` in MiB of resident memory; ``None``: no such limit.

    ``stop_when_empty``: leave once everything that is in the topics has been finished.
    """

    max_time_s: float | None = None
    memory_mib: int | None = None
    stop_when_empty: bool = False


class LimitWatch:
    """Looks at a process's workers several times a second and calls ``stop`` with the first reason to leave."""

    def __init__(
        self,
        workers: Sequence[tuple[WorkerApp, TierProcessor]],
        limits: Limits,
        stop: Callable[[StopReason], None],
    ) -> None:
        self._workers = workers
        self._limits = limits
        self._stop = stop
        self._began = time.monotonic()

    async def run(self) -> None:
        """Look until there is a reason."""
        reason = None
        while reason is None:
            await asyncio.sleep(_LOOK_S)
            reason = await self._reason()
        self._stop(reason)

    async def _reason(self) -> StopReason | None:
        limits = self._limits
        if limits.memory_mib is not None and resident_bytes() > limits.memory_mib * 1024 * 1024:
            return StopReason.MEMORY
        if limits.max_time_s is not None and time.monotonic() - self._began >= limits.max_time_s:
            return StopReason.MAX_TIME
        if all(each.brake.left == 0 and not each.started and not each.running for _, each in self._workers):
            return StopReason.MAX_JOBS
        if limits.stop_when_empty and all([await is_empty(app) for app, _ in self._workers]):
            return StopReason.EMPTY
        return None


async def is_empty(app: WorkerApp) -> bool:
    """Whether a worker has finished everything that its partitions hold now; false before its first assignment."""
    if app.rebalancing or not app.processor.is_idle():
        return False
    if app.unassigned:
        # More workers than partitions: this one has none.
        return True
    partitions = app.assigned.partitions
    if not partitions or any(each.in_transit or each.acker.unfinished or each.closed for each in partitions):
        return False
    offsets = app.assigned.next_offsets()
    ends = await app.consumer.highwaters(*offsets)
    return all(offset >= ends[tp] for tp, offset in offsets.items())


def resident_bytes() -> int:
    """Memory of this process that is in RAM; where the system does not tell, the most that ever was."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
