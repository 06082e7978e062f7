"""What the parts of a tier's worker share: lanes, tasks that have started, and the ways a task comes to its end."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable

from schemas.events import now_micros
from streams.agents.admission import Admission
from streams.agents.deferring import Deferring
from streams.agents.tier_records import TierTask, outcome_event
from streams.control.brake import Brake
from streams.engine.contract import AssignedPartition, LedgerEntry
from streams.engine.decide import Decision
from streams.engine.fence import Fence
from streams.engine.lanes import Lanes
from streams.engine.outcomes import OutcomeWriter
from streams.settings import Settings
from topics.tiers import TIERS


class TierState:
    """One per worker; lives on its event loop. ``worker`` is the name that outcomes carry.

    ``started`` holds, by identity, the tasks from their start until all that they lead to is acknowledged; ``wake``
    lets the runners look for more. ``parked`` counts by partition number the lanes that wait for what is not theirs to
    decide.
    """

    def __init__(self, tier: str, settings: Settings, writer: OutcomeWriter, wake: Callable[[], None]) -> None:
        self.tier = TIERS[tier]
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self.catalogue = settings.catalogue()
        self.writer = writer
        self.wake = wake
        self.admission = Admission(settings, self.worker)
        self.lanes: Lanes[TierTask] = Lanes(
            settings.window, settings.waiting_per_partition, settings.waiting_bytes, self.admission.shares
        )
        self.deferring = Deferring(self.lanes)
        self.started: dict[str, TierTask] = {}
        self.parked: Counter[int] = Counter()
        self.brake = Brake()
        self.fence = Fence(settings.session_timeout_s)

    def finish(self, item: TierTask) -> None:
        """All that a record leads to is in the log."""
        item.partition.finish(item.record.offset)
        self.leave(item)

    def finish_all(self, items: Iterable[TierTask]) -> None:
        """``finish`` for many at once."""
        for item in items:
            item.partition.finish(item.record.offset)
            self._let_go(item)
        if self.lanes.startable:
            self.wake()

    def leave(self, item: TierTask) -> None:
        """Be done with a record, finished or not: its lane goes on."""
        self._let_go(item)
        if self.lanes.startable:
            self.wake()

    def _let_go(self, item: TierTask) -> None:
        if self.started.get(item.identity) is item:
            del self.started[item.identity]
        else:
            self.brake.give_back()
        self.lanes.release(item)

    def park(self, item: TierTask, until: float) -> None:
        """Hold the item's lane until its task has an outcome or ``until``, on the monotonic clock."""
        number = item.partition.number
        self.brake.give_back()
        self.lanes.park(item)
        self.parked[number] += 1
        woken = False

        def wake() -> None:
            nonlocal woken
            if not woken:
                woken = True
                self.parked[number] -= 1
                timer.cancel()
                self.lanes.unpark(item.lane)
                self.wake()

        timer = asyncio.get_running_loop().call_later(max(0.0, until - time.monotonic()), wake)
        item.partition.ledger.watch(item.identity, wake)

    async def note(self, item: TierTask, kind: str, remaining_s: float | None) -> int:
        """Write what becomes of a task that has no outcome yet, and enter it into the ledger before the commit (R2).

        Returns its offset in `.events`.
        """
        event = outcome_event(item, Decision(kind), self.tier.name, self.worker, now_micros())
        event.finished_at = None
        event.remaining_s = remaining_s
        offset = await self.writer.write(event, item.source, item.record.key)
        parked_until = time.monotonic() + remaining_s if remaining_s is not None else 0.0
        item.partition.ledger.note(LedgerEntry(kind, offset, item.source, item.identity, parked_until))
        return offset

    def is_excused(self, partition: AssignedPartition) -> bool:
        """Whether records of a partition may wait for long although nothing is wrong (R8).

        Nothing may start, a handler of its number is within its timeout, a lane of it is held by a claim, the window
        is full of running handlers, or the brokers have not answered yet. Topic and steps share lanes, so their number
        counts.
        """
        number = partition.number
        return (
            self.brake.is_on
            or self.fence.is_up
            or self.parked[number] > 0
            or self.writer.undelivered > 0
            or self.lanes.running >= self.lanes.window
            or any(task.slot is not None and task.partition.number == number for task in self.started.values())
        )
