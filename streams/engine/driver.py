"""Faust's aiokafka driver, changed where it loses records or time: batches, commits, seeks, hand-over (DESIGN §5).

Faust goes on doing group membership, rebalances and the agents' life; which offset is committed, from where is read
and what happens at a revocation is decided here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import structlog
from faust.transport.drivers import aiokafka as base
from faust.types.tuples import TP, ConsumerMessage

from streams.engine.assignment import Assignment
from streams.engine.consumer_thread import BatchConsumerThread, Fetched
from streams.engine.partitions import Batch, Partition

_log = structlog.get_logger(__name__)

FETCH_S: Final = 0.5
"""Longest wait of a fetch while every partition has room."""

FETCH_WHILE_FULL_S: Final = 0.02
"""The same while one has none: it may get room at any moment, and the fetch under way does not ask for it."""

IN_TRANSIT: Final = 1000
"""Records of one partition that may be between fetch and processor, and never more than may wait there."""

CAREFUL_BATCH: Final = 20
"""Records taken at a time of a partition whose tasks run one by one (R4)."""

_CREATED: Final = 0
"""Kafka's type of a timestamp that the producer gave; nobody asks a batch for it."""

_COMMIT_TRIES: Final = 5
_COMMIT_PAUSE_S: Final = 0.2


class _Fetch(NamedTuple):
    """A fetch under way, begun when the flow had been stopped ``stops`` times."""

    stops: int
    records: "asyncio.Future[Fetched]"


class BatchConsumer(base.Consumer):  # type: ignore[misc]
    """Yields one Faust message for each partition's part of a fetch; its value is a ``Batch``."""

    logger = logging.getLogger("faust")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.assigned: Assignment = self.app.assigned
        self._stops = 0
        self._behind = False
        self._ahead: _Fetch | None = None
        self._letting_go = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def stop_flow(self) -> None:
        """Count the stops: what a fetch took across one is discarded (R23)."""
        self._stops += 1
        super().stop_flow()

    async def perform_seek(self) -> None:
        """After an assignment: begin each partition where its commit says, with a new ledger."""
        stops = self._stops
        generation = self.app.consumer_generation_id
        asked = time.monotonic()
        positions = await self._thread.positions()
        self.app.fence.beat(asked)
        self._read_offset.clear()
        if self._stops != stops and not positions:
            return
        # Before the seek: a fetch of the flow that was stopped may come back at any await from here on, moves the
        # positions past what it took, and asks for another seek. A record at the end of its partition would else wait
        # for the next rebalance, because no later one shows the gap (R23).
        self._behind = False
        await self._thread.seek_all(self.assigned.take(positions, generation))
        marks = self.assigned.marks()
        if await self._commit(marks):
            self.assigned.confirm(marks)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One fetch; the next is begun before its records are given out.

        Partitions without room are left out, and there is no fetch where none has (R13).
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        fetch, self._ahead = self._ahead, None
        if fetch is None:
            if self._behind:
                # A discarded fetch has moved the positions: go back to what each partition expects.
                self._behind = False
                await self._thread.seek_all(self.assigned.next_offsets())
            fetch = self._begin_fetch()
        if fetch is None:
            await asyncio.sleep(FETCH_WHILE_FULL_S)
            return
        try:
            records = await fetch.records
        except asyncio.CancelledError:
            # It may have taken its records all the same.
            self._behind = True
            raise
        if not records or self.should_stop:
            return
        if self._stops != fetch.stops or not self.flow_active:
            self._behind = True
            return
        messages = await self._messages(records)
        # Else the lanes run dry: from here to the next call lie a dozen turns of the loop, each as long as a slice.
        if self._stops == fetch.stops and self.flow_active:
            self._ahead = self._begin_fetch()
        for tp, message in messages:
            yield tp, message

    def _begin_fetch(self) -> _Fetch | None:
        """A fetch from the partitions that have room; none where no partition has."""
        active = set(self._get_active_partitions())
        open_tps = {tp for tp in active if self._has_room(tp)}
        if not open_tps:
            # To Faust an empty set means: no filter.
            return None
        wait_s = FETCH_S if len(open_tps) == len(active) else FETCH_WHILE_FULL_S
        return _Fetch(self._stops, self._thread.begin_fetch(open_tps, wait_s))

    async def _messages(self, records: Fetched) -> list[tuple[TP, ConsumerMessage]]:
        messages: list[tuple[TP, ConsumerMessage]] = []
        back: dict[TP, int] = {}
        for fetched_tp, fetched in records.items():
            tp = TP(fetched_tp.topic, fetched_tp.partition)
            partition = self.assigned.find(tp)
            if partition is None or not fetched:
                continue
            wanted = partition.accept(fetched)
            if wanted is None:
                _log.warning("records are missing before a fetch", topic=tp.topic, partition=tp.partition)
                back[tp] = partition.next_offset
            elif wanted:
                if partition.is_careful and len(wanted) > CAREFUL_BATCH:
                    wanted = partition.take_first(wanted, CAREFUL_BATCH)
                    back[tp] = partition.next_offset
                partition.in_transit += len(wanted)
                messages.append((tp, self._message(tp, partition, wanted)))
        if back:
            await self._thread.seek_all(back)
        return messages

    def _message(self, tp: TP, partition: Partition, records: Any) -> ConsumerMessage:
        last = records[-1]
        # Faust keeps a list of the gaps between its messages' offsets, which would only grow.
        self._read_offset[tp] = last.offset - 1
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000,
            _CREATED,
            (),
            None,
            Batch(partition, records),
            None,
            0,
            0,
            tp,
            generation_id=partition.generation,
        )

    def _has_room(self, tp: TP) -> bool:
        partition = self.assigned.find(tp)
        if partition is None or partition.in_transit >= (1 if partition.is_careful else self.app.most_in_transit):
            return False
        return self.assigned.has_room(partition)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what the partitions' own ackers say; Faust's lists of acknowledgements are thrown away."""
        self._acked.clear()
        self._acked_index.clear()
        self._gap.clear()
        offsets = self.assigned.commits()
        if not offsets or not await self._commit(offsets):
            return False
        self.assigned.confirm(offsets)
        return True

    async def wait_empty(self) -> None:
        """At a revocation and at the end: hand over (R5), commit, forget the partitions."""
        # An end amid a revocation waits for it: it would stop the thread that the revocation's commit needs, and the
        # group would wait for a member that neither joins nor leaves.
        async with self._letting_go:
            partitions = self.assigned.close()
            if partitions:
                await self.assigned.processor.hand_over(partitions, self.app.rebalance_grace_s)
                await self._commit_finally()
                self.assigned.forget()
            self._clean_unacked_messages()
            self.app.handed_over.set()

    async def _commit_finally(self) -> None:
        for _ in range(_COMMIT_TRIES):
            await self.maybe_wait_for_commit_to_finish()
            if not self.assigned.commits() or await self.force_commit():
                return
            await asyncio.sleep(_COMMIT_PAUSE_S)
        _log.warning("the last commit of an assignment was refused; its next owner finds the outcomes in the ledger")

    async def on_stop(self) -> None:
        """Nobody asks any more for what was fetched ahead."""
        await super().on_stop()
        fetch, self._ahead = self._ahead, None
        if fetch is not None and not fetch.records.cancel() and not fetch.records.cancelled():
            # Looked at, else asyncio complains that nobody did.
            fetch.records.exception()

    async def on_shutdown(self) -> None:
        """After the group was left: what still runs may end (R5)."""
        await super().on_shutdown()
        await self.app.drain()


class BatchTransport(base.Transport):  # type: ignore[misc]
    """Assigned to ``app.transport``."""

    Consumer = BatchConsumer
