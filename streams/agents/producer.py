"""Records on their way to Kafka, a batch at a time: one wait for the acknowledgements of all of them."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from streams.engine.outcomes import OutcomeWriter, Outgoing


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
    """A ``RecordPublisher`` on a worker's own ``OutcomeWriter``, which ends the worker at the first refusal (R3)."""

    def __init__(self, writer: OutcomeWriter) -> None:
        self._writer = writer

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
            unacknowledged -= 1
            if unacknowledged == 0 and not done.done():
                done.set_result(None)

        for index, record in enumerate(records):
            self._writer.produce(record, partial(delivered, index))
        await done
        return offsets
