"""How a worker lets go: of some partitions at a revocation, of everything at its end (R5)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from streams.agents.tier_state import TierState
from streams.engine.contract import AssignedPartition

_PAUSE_S: Final = 0.01

QUIET_S: Final = 0.1
"""Where nothing has ended for so long, what runs takes its time: its partitions need not stand still for it."""


async def hand_over(state: TierState, partitions: Sequence[AssignedPartition], grace_s: float) -> None:
    """See ``RecordProcessor.hand_over``: what still runs after the grace is claimed, and runs on."""
    for partition in partitions:
        state.lanes.drop(partition)
    given_up = set(partitions)
    await quiet(lambda: sum(task.partition in given_up for task in state.started.values()), grace_s)
    open_tasks = [task for task in state.started.values() if task.partition in given_up and not task.is_recorded]
    now = time.monotonic()
    await asyncio.gather(*(state.note(task, "claimed", task.remaining_s(now)) for task in open_tasks))


async def quiet(running: Callable[[], int], grace_s: float) -> None:
    """Wait until nothing is ``running``, or nothing has ended for ``QUIET_S``; for ``grace_s`` at most."""
    count, ended_at = running(), time.monotonic()
    end = ended_at + grace_s
    while count and time.monotonic() < min(end, ended_at + QUIET_S):
        await asyncio.sleep(_PAUSE_S)
        before, count = count, running()
        if count < before:
            ended_at = time.monotonic()


async def let_end(state: TierState, grace_s: float) -> None:
    """Wait for what runs; what runs longer than the grace is cancelled and released to the next owner."""
    end = time.monotonic() + grace_s
    while state.started and time.monotonic() < end:
        await asyncio.sleep(_PAUSE_S)
    cut_off = [task for task in state.started.values() if task.slot is not None]
    for task in cut_off:
        if task.slot is not None:
            task.slot.cancel()
    await asyncio.gather(*(state.note(task, "released", None) for task in cut_off))
