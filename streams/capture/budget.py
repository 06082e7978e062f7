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
_PROJECTOR_GROUP: Final = "webhook-projector"


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
        """Take room for a record of ``size`` bytes; ``False``: there is none now, nothing was taken.

        Blocks while the brokers are asked what has been read.
        """
        if self._reserve(topic, partition, size):
            return True
        self._forget_read(topic)
        return self._reserve(topic, partition, size)

    def take(self, topic: str, partition: int, size: int) -> None:
        """Take room for a record that will be written in any case: whoever finishes something never waits."""
        with self._lock:
            self._take(self._unread.setdefault((topic, partition), _Unread()), size)

    def fits(self, topic: str, partition: int, size: int) -> int:
        """How many records of ``size`` bytes there is room for. Blocks as ``reserve`` does, from half full on."""
        if self.is_half_full(topic, partition):
            self._forget_read(topic)
        with self._lock:
            unread = self._unread.get((topic, partition), _Unread())
            free = (self._unread_bytes - unread.size) // (size + RECORD_OVERHEAD_BYTES)
            return max(0, min(free, self._unread_batches - len(unread.records) - unread.reserved))

    def is_half_full(self, topic: str, partition: int) -> bool:
        """Whether half of a partition's bytes or records are taken, by what is known without asking."""
        with self._lock:
            unread = self._unread.get((topic, partition), _Unread())
            records = len(unread.records) + unread.reserved
            return 2 * unread.size >= self._unread_bytes or 2 * records >= self._unread_batches

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

    def _reserve(self, topic: str, partition: int, size: int) -> bool:
        with self._lock:
            unread = self._unread.setdefault((topic, partition), _Unread())
            fits = unread.size + size + RECORD_OVERHEAD_BYTES <= self._unread_bytes
            if fits and len(unread.records) + unread.reserved < self._unread_batches:
                self._take(unread, size)
                return True
            return False

    def _take(self, unread: _Unread, size: int) -> None:
        unread.size += size + RECORD_OVERHEAD_BYTES
        unread.reserved += 1

    def _forget_read(self, topic: str) -> None:
        """Give free what was read. The brokers are asked outside the lock: others go on meanwhile."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at.get(topic, -_PAUSE_S) < _PAUSE_S:
                return
            self._asked_at[topic] = now
        committed = self._committed(topic)
        with self._lock:
            for partition, offset in committed.items():
                unread = self._unread.get((topic, partition))
                while unread is not None and unread.records and unread.records[0][0] < offset:
                    unread.size -= unread.records.popleft()[1]


def committed_offsets(admin: AdminClient, catalogue: Catalogue) -> Committed:
    """Reads what the group that reads a topic has committed: intake's, the projector's, or the tier's."""
    readers = {catalogue.changes: _INTAKE_GROUP, catalogue.requests: _INTAKE_GROUP}
    readers |= {catalogue.events: _PROJECTOR_GROUP, catalogue.scheduled: _PROJECTOR_GROUP}

    def read(topic: str) -> Mapping[int, int]:
        group = readers.get(topic) or catalogue.tier(topic).name
        partitions = [TopicPartition(topic, number) for number in range(catalogue.specs[topic].partitions)]
        request = [ConsumerGroupTopicPartitions(group, partitions)]
        try:
            answer = admin.list_consumer_group_offsets(request, request_timeout=5)[group].result()
        except KafkaException:
            return {}
        return {each.partition: each.offset for each in answer.topic_partitions if each.offset >= 0}

    return read
