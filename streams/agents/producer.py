"""Records on their way to Kafka, a batch at a time: one wait for the acknowledgements of all of them."""

import asyncio
from collections.abc import Container, Sequence
from functools import partial
from typing import Final, Protocol

from streams.capture.budget import Budget
from streams.engine.outcomes import OutcomeWriter, Outgoing

_FULL_PAUSE_S: Final = 0.05


class RecordPublisher(Protocol):
    """Writes records to Kafka."""

    async def start(self) -> None:
        """Called once, before the first record, on the loop that publishes."""

    async def stop(self) -> None:
        """Called once, after the last record."""

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """The records' offsets, once all in-sync replicas have all of them; records of a partition keep their order.

        Waits as long as the brokers are away. Never returns where one was refused for good: the role then stops.
        """


class WriterPublisher:
    """A ``RecordPublisher`` on a worker's own ``OutcomeWriter``, which ends the worker at the first refusal (R3).

    With a ``budget``, records of ``bounded`` topics wait until the embedded broker has room for them (R21).
    """

    def __init__(self, writer: OutcomeWriter, budget: Budget | None = None, bounded: Container[str] = ()) -> None:
        self._writer = writer
        self._budget = budget
        self._bounded = bounded

    async def start(self) -> None:
        """See ``RecordPublisher``."""
        await self._writer.start()

    async def stop(self) -> None:
        """See ``RecordPublisher``."""
        await self._writer.stop()

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See ``RecordPublisher``."""
        if not records:
            return []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        offsets = [-1] * len(records)
        unacknowledged = len(records)

        def delivered(index: int, offset: int) -> None:
            nonlocal unacknowledged
            offsets[index] = offset
            self._note_written(records[index], offset)
            unacknowledged -= 1
            if unacknowledged == 0 and not done.done():
                done.set_result(None)

        for index, record in enumerate(records):
            await self._take_room(record)
            self._writer.produce(record, partial(delivered, index))
        await done
        return offsets

    async def _take_room(self, record: Outgoing) -> None:
        budget = self._budget
        if budget is None or record.topic not in self._bounded:
            return
        number, size = _partition(budget, record), len(record.value)
        # In a thread: where there is no room the brokers are asked what has been read.
        while not await asyncio.to_thread(budget.reserve, record.topic, number, size):
            await asyncio.sleep(_FULL_PAUSE_S)

    def _note_written(self, record: Outgoing, offset: int) -> None:
        budget = self._budget
        if budget is not None and record.topic in self._bounded:
            budget.written(record.topic, _partition(budget, record), offset, len(record.value))


def _partition(budget: Budget, record: Outgoing) -> int:
    return record.partition if record.partition >= 0 else budget.partition(record.topic, record.key or b"")
