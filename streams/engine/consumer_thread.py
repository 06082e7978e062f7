"""The thread of the aiokafka consumer: fetches, positions, seeks and commits as the driver needs them."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as base
from faust.types.tuples import TP

from streams.engine.assignment import Position
from streams.engine.fetched import use_light_records
from streams.engine.lasting_client import use_lasting_clients
from streams.engine.partitions import CommitOffset
from streams.engine.prompt_fetcher import use_prompt_fetchers

_log = structlog.get_logger(__name__)

Fetched: TypeAlias = Mapping[Any, list[Any]]
"""Records by aiokafka's name of their partition."""


class BatchConsumerThread(base.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread of the aiokafka consumer: commits with metadata, reads commits with metadata."""

    logger = logging.getLogger("faust")

    def _create_worker_consumer(self, transport: Any = None) -> Any:
        use_light_records()
        use_lasting_clients()
        use_prompt_fetchers()
        consumer = super()._create_worker_consumer(transport)
        # Faust fixes 1500 ms, which the embedded broker waits out on every empty fetch (DESIGN §11).
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms
        return consumer

    async def on_start(self) -> None:
        """Report each successful heartbeat, by the time it was sent (R5)."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        heartbeat = coordinator._do_heartbeat

        async def reported() -> bool:
            sent = time.monotonic()
            is_member: bool = await heartbeat()
            if is_member:
                self.app.fence.beat(sent)
            return is_member

        coordinator._do_heartbeat = reported

    async def _commit(self, offsets: Mapping[TP, CommitOffset]) -> bool:
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        wanted = {
            base.ensure_aiokafka_TP(tp): OffsetAndMetadata(int(offset), offset.metadata)
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if len(wanted) < len(offsets):
            return False
        try:
            await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError) as error:
            _log.info("a commit came too late for its assignment", error=str(error))
            return False
        except KafkaError as error:
            _log.warning("a commit failed; it is tried again", error=repr(error))
            return False
        return True

    def begin_fetch(self, partitions: Collection[TP], wait_s: float) -> "asyncio.Future[Fetched]":
        """What a fetch from these partitions brings, which waits up to ``wait_s`` for a first record.

        Not by ``call_thread``: its queue takes the thread five turns of its loop, in each of which it waits for the
        interpreter while the worker is busy.
        """
        consumer = self._ensure_consumer()
        fetching = self._fetch_records(consumer, set(partitions), wait_s, consumer._max_poll_records)
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetching, self.thread_loop))

    async def positions(self) -> dict[TP, Position]:
        """Where each assigned partition begins, and what rode beside its last commit."""
        found: dict[TP, Position] = await self.call_thread(self._positions)
        return found

    async def _positions(self) -> dict[TP, Position]:
        consumer = self._ensure_consumer()
        assigned = list(consumer.assignment())
        if not assigned:
            return {}
        # The consumer's own committed() drops the metadata.
        committed = await consumer._coordinator.fetch_committed_offsets(assigned)
        begun = {tp: found for tp, found in committed.items() if found.offset >= 0}
        fresh = [tp for tp in assigned if tp not in begun]
        first = await consumer.beginning_offsets(fresh) if fresh else {}
        return {
            TP(tp.topic, tp.partition): Position(begun[tp].offset, begun[tp].metadata)
            if tp in begun
            else Position(first[tp], None)
            for tp in assigned
        }

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Read on from these offsets, where the partitions are still assigned."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            at = base.ensure_aiokafka_TP(tp)
            if at in assigned:
                consumer.seek(at, offset)

    async def check_errors(self) -> None:
        """Raise what stopped the group's coordination; without asking, aiokafka would wait for ever (R8)."""
        await self.call_thread(self._check_errors)

    async def _check_errors(self) -> None:
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator.check_errors()

    async def behind(self) -> set[TP]:
        """Partitions of which the brokers have more than was fetched."""
        found: set[TP] = await self.call_thread(self._behind)
        return found

    async def _behind(self) -> set[TP]:
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        states = {tp: assignment.state_value(tp) for tp in assignment.tps} if assignment is not None else {}
        return {
            TP(tp.topic, tp.partition)
            for tp, state in states.items()
            if state.has_valid_position and state.highwater is not None and state.position < state.highwater
        }

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust judges by acknowledgements that are not used here; ``watchdog`` judges instead."""
