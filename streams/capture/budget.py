"""The room of the embedded broker: what it has not room for it drops silently, so producers keep to a budget (R21)."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from aiokafka.partitioner import murmur2
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from topics.catalogue import MIB, Catalogue

Committed: TypeAlias = Callable[[str], Mapping[int, int]]
"""Gives a topic's committed offsets by partition; partitions without one are left out."""

UNREAD_BYTES: Final = 4 * MIB
UNREAD_BATCHES: Final = 80_000
RECORD_OVERHEAD_BYTES: Final = 512
"""Headers and frame of one record, at most."""
_PAUSE_S: Final = 0.05
_INTAKE_GROUP: Final = "webhook-intake"


@dataclass(slots=True)
class _Unread:
    """What was written to a partition and not committed: (offset, bytes) of each record, and what is on its way."""

    records: deque[tuple[int, int]] = field(default_factory=deque)
    size: int = 0
    reserved: int = 0


class Budget:
    """Bytes and records that each partition may hold unread. One for all producers of a process; thread-safe.

    Each record counts as a batch of its own, the worst that a producer can do.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        committed: Committed,
        unread_bytes: int = UNREAD_BYTES,
        unread_batches: int = UNREAD_BATCHES,
    ) -> None:
        self._catalogue = catalogue
        self._committed = committed
        self._unread_bytes = unread_bytes
        self._unread_batches = unread_batches
        self._unread: dict[tuple[str, int], _Unread] = {}
        self._asked_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def partition(self, topic: str, key: bytes) -> int:
        """Partition that ``murmur2_random`` gives a key."""
        number: int = murmur2(key) & 0x7FFFFFFF
        return number % self._catalogue.specs[topic].partitions

    def reserve(self, topic: str, partition: int, size: int) -> bool:
        """Take room for a record of ``size`` bytes; ``False``: there is none now, nothing was taken."""
        with self._lock:
            unread = self._unread.setdefault((topic, partition), _Unread())
            if not self._fits(unread, size):
                self._forget_read(topic)
                if not self._fits(unread, size):
                    return False
            unread.size += size + RECORD_OVERHEAD_BYTES
            unread.reserved += 1
            return True

    def written(self, topic: str, partition: int, offset: int, size: int) -> None:
        """A record with room is in the log at ``offset``."""
        with self._lock:
            unread = self._unread[topic, partition]
            unread.reserved -= 1
            unread.records.append((offset, size + RECORD_OVERHEAD_BYTES))

    def give_back(self, topic: str, partition: int, size: int) -> None:
        """A record with room was not written."""
        with self._lock:
            unread = self._unread[topic, partition]
            unread.reserved -= 1
            unread.size -= size + RECORD_OVERHEAD_BYTES

    def _fits(self, unread: _Unread, size: int) -> bool:
        return (
            unread.size + size + RECORD_OVERHEAD_BYTES <= self._unread_bytes
            and len(unread.records) + unread.reserved < self._unread_batches
        )

    def _forget_read(self, topic: str) -> None:
        now = time.monotonic()
        if now - self._asked_at.get(topic, -_PAUSE_S) < _PAUSE_S:
            return
        self._asked_at[topic] = now
        for partition, offset in self._committed(topic).items():
            unread = self._unread.get((topic, partition))
            while unread is not None and unread.records and unread.records[0][0] < offset:
                unread.size -= unread.records.popleft()[1]


def committed_offsets(admin: AdminClient, catalogue: Catalogue) -> Committed:
    """Reads what the group that reads a topic has committed: intake's, or the tier's."""

    def read(topic: str) -> Mapping[int, int]:
        group = _INTAKE_GROUP if topic in (catalogue.changes, catalogue.requests) else catalogue.tier(topic).name
        partitions = [TopicPartition(topic, number) for number in range(catalogue.specs[topic].partitions)]
        request = [ConsumerGroupTopicPartitions(group, partitions)]
        try:
            answer = admin.list_consumer_group_offsets(request, request_timeout=5)[group].result(5)
        except (KafkaException, TimeoutError):
            return {}
        return {each.partition: each.offset for each in answer.topic_partitions if each.offset >= 0}

    return read
