"""Looks past what a worker holds of a partition, for records of another tenant that wait behind it (R15)."""

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.broker.connection import consumer_config
from streams.headers import tenant_in
from streams.settings import Settings

_log = structlog.get_logger(__name__)

MOST_AT_ONCE: Final = 5000
"""Records looked at in one go; the next goes on from there, so that each is looked at once."""

_BATCH: Final = 200
_ANSWER_S: Final = 2.0


class _Seen(NamedTuple):
    """Up to ``to`` only ``tenants`` have records; ``other`` is the place of the first that is not theirs, if known."""

    tenants: frozenset[str]
    to: int
    other: int | None = None


class Lookahead:
    """One per worker. Its consumer only assigns, in a thread of its own, and exists once something was asked."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._config = {
            **consumer_config(settings, f"{group}-lookahead"),
            "fetch.queue.backoff.ms": 50,
            # It reads a little at a time, so it need not hold much: 8 MiB and the usual fetches took 40 MiB of memory.
            "queued.max.messages.kbytes": 1024,
            "fetch.message.max.bytes": 256 * 1024,
        }
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lookahead")
        self._consumer: Consumer | None = None
        self._seen: dict[tuple[str, int], _Seen] = {}

    async def other(self, topic: str, number: int, begin: int, tenants: Collection[str]) -> int | None:
        """Offset of the first record at or after ``begin`` that is of none of ``tenants``.

        ``None``: there is none among those looked at so far, or the brokers do not answer.
        """
        place, wanted = (topic, number), frozenset(tenants)
        seen = self._seen.get(place)
        if seen is None or seen.tenants != wanted or seen.to < begin:
            seen = _Seen(wanted, begin)
        if seen.other is None or seen.other < begin:
            loop = asyncio.get_running_loop()
            seen = self._seen[place] = await loop.run_in_executor(self._thread, self._look, place, seen)
        return seen.other

    async def rest(self) -> None:
        """Close the consumer until something is asked again."""
        consumer, self._consumer = self._consumer, None
        self._seen.clear()
        if consumer is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, consumer.close)

    async def stop(self) -> None:
        """Close the consumer for good."""
        await self.rest()
        self._thread.shutdown(wait=False)

    def _look(self, place: tuple[str, int], seen: _Seen) -> _Seen:
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        consumer, position = self._consumer, seen.to
        try:
            found = consumer.get_watermark_offsets(TopicPartition(*place), timeout=_ANSWER_S, cached=False)
            end = min(found[1] if found is not None else position, position + MOST_AT_ONCE)
            if position < end:
                consumer.assign([TopicPartition(*place, position)])
            while position < end:
                messages = [each for each in consumer.consume(_BATCH, _ANSWER_S) if each.error() is None]
                if not messages:
                    break
                for message in messages:
                    if tenant_in(message.key(), message.headers()) not in seen.tenants:
                        return _Seen(seen.tenants, message.offset(), message.offset())
                    position = message.offset() + 1
        except KafkaException as error:
            _log.info("nobody can say what waits behind a full partition", topic=place[0], error=str(error))
        finally:
            # Else it goes on fetching what nobody takes; after a broker's restart its thread was seen to spin (F4).
            consumer.unassign()
        return _Seen(seen.tenants, position)
