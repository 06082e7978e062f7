"""Workers within the embedded broker's room: what has started may always be finished, so new starts wait (R21)."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Container
from typing import Final, Protocol

from confluent_kafka import KafkaError, Message

from schemas.limits import MAX_STEP_RESULT_BYTES
from streams.agents.executions import ExecutionLookup
from streams.agents.intents import Confirm
from streams.agents.tier import TierProcessor
from streams.agents.tier_records import TierTask
from streams.background import OnCrash, run_in_background
from streams.capture.budget import RECORD_OVERHEAD_BYTES, UNREAD_BYTES, Budget
from streams.engine.contract import AssignedPartition
from streams.engine.lanes import Lane
from streams.engine.outcomes import Delivery, OutcomeWriter, offset_of
from streams.headers import Headers
from streams.settings import Settings
from topics.catalogue import Catalogue
from topics.tiers import Tier

AGAIN_S: Final = 0.05
"""How old a measurement may be, and how long a task waits that may not start."""

LARGEST_OUTCOME_BYTES: Final = MAX_STEP_RESULT_BYTES + 16 * 1024
USUAL_SEQUEL_BYTES: Final = 2048
_SLOWLY: Final = 64
_AT_FIRST: Final = UNREAD_BYTES // (LARGEST_OUTCOME_BYTES + RECORD_OVERHEAD_BYTES)


class Starting(Protocol):
    """As much of a worker as a room looks at."""

    @property
    def tier(self) -> Tier:
        """Its tier."""

    @property
    def started(self) -> Collection[TierTask]:
        """Tasks that have started and whose outcomes are not in the log yet."""


class Room:
    """How many tasks of each partition number may start. One for all workers of a process; lives on its event loop.

    Each task that runs has room kept for the largest outcome there may be, because nobody knows what quick tasks will
    return before they have; and for one sequel of ``sequel_bytes``, the largest of late.
    """

    def __init__(self, budget: Budget, catalogue: Catalogue, on_crash: OnCrash) -> None:
        self.budget = budget
        self.bounded: Container[str] = {*catalogue.tier_by_topic, catalogue.events, catalogue.scheduled}
        self.sequel_bytes = USUAL_SEQUEL_BYTES
        self._catalogue = catalogue
        self._on_crash = on_crash
        self._workers: list[Starting] = []
        self._left: Counter[int] = Counter(
            dict.fromkeys(range(catalogue.specs[catalogue.events].partitions), _AT_FIRST)
        )
        self._crowded: set[tuple[str, int]] = set()
        self._started: Counter[int] = Counter()
        self._measured_at = 0.0
        self._measuring: asyncio.Task[None] | None = None

    def add(self, worker: Starting) -> None:
        """Count the worker's started tasks from now on."""
        self._workers.append(worker)

    def left(self, steps: str, number: int, is_step: bool) -> int:
        """How many tasks of partition ``number`` may start, whose sequels would go to the topic ``steps``.

        New work stops where that topic is half full; steps go on, for only they make it emptier.
        """
        if self._measuring is None and time.monotonic() - self._measured_at > AGAIN_S:
            self._measuring = run_in_background("embedded-room", self._measure(), self._on_crash)
        return 0 if not is_step and (steps, number) in self._crowded else max(0, self._left[number])

    def started(self, number: int) -> None:
        """A task of that partition number starts."""
        self._left[number] -= 1
        self._started[number] += 1

    def take(self, topic: str, partition: int, size: int) -> None:
        """A record of a worker is about to be written."""
        if topic != self._catalogue.events:
            self.sequel_bytes = max(size, self.sequel_bytes - (self.sequel_bytes - USUAL_SEQUEL_BYTES) // _SLOWLY)
        self.budget.take(topic, partition, size)

    async def _measure(self) -> None:
        # What starts or ends during the look counts as running, whether the look has seen its outcome or not.
        running = Counter(task.partition.number for worker in self._workers for task in worker.started)
        self._started.clear()
        fits, crowded = await asyncio.to_thread(self._look)
        running += self._started
        self._left = Counter({number: room - running[number] for number, room in fits.items()})
        self._crowded = crowded
        self._measured_at = time.monotonic()
        self._measuring = None

    def _look(self) -> tuple[dict[int, int], set[tuple[str, int]]]:
        catalogue, budget = self._catalogue, self.budget
        numbers = range(catalogue.specs[catalogue.events].partitions)
        # Both topics have the tiers' number of partitions, and a sequel has its task's key and so its number.
        read = {catalogue.events: LARGEST_OUTCOME_BYTES, catalogue.scheduled: self.sequel_bytes}
        fits = {number: min(budget.fits(topic, number, size) for topic, size in read.items()) for number in numbers}
        steps = {catalogue.steps(worker.tier.name) for worker in self._workers}
        crowded = set()
        for topic in steps:
            for number in numbers:
                budget.fits(topic, number, self.sequel_bytes)
                if budget.is_half_full(topic, number):
                    crowded.add((topic, number))
        return fits, crowded


class _Counted:
    """A record under way that takes room (``outcomes.Delivery``)."""

    __slots__ = ("budget", "delivery", "number", "size", "topic")

    def __init__(self, delivery: Delivery, budget: Budget, topic: str, number: int, size: int) -> None:
        self.delivery = delivery
        self.budget = budget
        self.topic = topic
        self.number = number
        self.size = size

    def report(self, error: KafkaError | None, message: Message) -> None:
        """See ``Delivery``."""
        if error is None:
            self.budget.written(self.topic, self.number, offset_of(message), self.size)
        else:
            self.budget.give_back(self.topic, self.number, self.size)
        self.delivery.report(error, message)

    def refuse(self, error: KafkaError) -> None:
        """See ``Delivery``."""
        self.budget.give_back(self.topic, self.number, self.size)
        self.delivery.refuse(error)


class BoundedWriter(OutcomeWriter):
    """An ``OutcomeWriter`` whose records count in the budget. It never waits: what has begun is finished."""

    def __init__(self, settings: Settings, on_crash: OnCrash, room: Room) -> None:
        super().__init__(settings, on_crash)
        self.room = room

    def _produce(
        self, delivery: Delivery, topic: str, value: bytes, key: bytes | None, headers: Headers, partition: int
    ) -> None:
        room = self.room
        if topic in room.bounded:
            number = partition if partition >= 0 else room.budget.partition(topic, key or b"")
            room.take(topic, number, len(value))
            delivery = _Counted(delivery, room.budget, topic, number, len(value))
        super()._produce(delivery, topic, value, key, headers, partition)


class BoundedTierProcessor(TierProcessor):
    """A ``TierProcessor`` that starts only what there is room for to finish."""

    def __init__(
        self,
        tier: str,
        settings: Settings,
        executions: ExecutionLookup,
        writer: BoundedWriter,
        on_crash: OnCrash,
        confirm: Confirm | None = None,
    ) -> None:
        super().__init__(tier, settings, executions, writer, on_crash, confirm)
        self._room = writer.room
        self._room.add(self)
        self.moving.may_send = self._may_send
        self.overflow.may_defer = self._may_defer
        self._held: defaultdict[tuple[int, bool], list[Lane]] = defaultdict(list)

    def has_room(self, partition: AssignedPartition) -> bool:
        """See ``RecordProcessor``."""
        return super().has_room(partition) and self._left(partition.number, partition.topic == self._steps_topic) > 0

    def _left(self, number: int, is_step: bool) -> int:
        return self._room.left(self._steps_topic, number, is_step)

    def _may_send(self, topic: str, number: int) -> bool:
        """Whether a waiting record may go to another tier now: as new work, and only where that is not half full."""
        if not self._left(number, False) or self._room.budget.is_half_full(topic, number):
            return False
        self._room.started(number)
        return True

    def _may_defer(self, number: int) -> bool:
        """Whether a waiting record may go behind its gate now: that writes as much as a task's end."""
        if not self._left(number, True):
            return False
        self._room.started(number)
        return True

    def _take(self) -> TierTask | None:
        while (item := super()._take()) is not None:
            number = item.partition.number
            if item.partition.closed or self._left(number, item.is_step):
                self._room.started(number)
                return item
            self._hold(item)
        return None

    def _hold(self, item: TierTask) -> None:
        """Put a record back to the head of its lane until there is room; its partition is excused meanwhile (R8)."""
        number = item.partition.number
        self.brake.give_back()
        self._lanes.park(item)
        self._state.parked[number] += 1
        if not self._held:
            asyncio.get_running_loop().call_later(AGAIN_S, self._go_on)
        # Its lane, for the item may be taken out of it meanwhile (``Lanes.withdraw``).
        self._held[number, item.is_step].append(item.lane)

    def _go_on(self) -> None:
        for (number, is_step), lanes in list(self._held.items()):
            count = self._left(number, is_step)
            for lane in lanes[:count]:
                self._state.parked[number] -= 1
                self._lanes.unpark(lane)
            del lanes[:count]
            if not lanes:
                del self._held[number, is_step]
        if self._held:
            asyncio.get_running_loop().call_later(AGAIN_S, self._go_on)
        self._state.wake()
