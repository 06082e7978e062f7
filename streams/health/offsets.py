"""How far each tier's group is in its topics: what it has committed, and where they end."""

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from schemas.events import now_micros
from streams.broker.connection import admin_client, consumer_config
from streams.settings import Settings
from topics.tiers import TIERS

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""

_ANSWER_S: Final = 10.0
_LOOK_S: Final = 3.0
_POLL_S: Final = 0.1
_SMALL_FETCH_BYTES: Final = 64 * 1024
"""Of a partition; most batches fit. Of those that do not the broker sends one at a time."""


class Progress(NamedTuple):
    """Of a group in one partition: the next offset that it has not finished, and the log's end."""

    next: int
    end: int

    @property
    def lag(self) -> int:
        """Records that are not finished, as ``kafka-consumer-groups`` counts them."""
        return max(0, self.end - self.next)


class OffsetReader:
    """Asks the brokers about all tiers. Raises ``SetupError`` where none answers."""

    def __init__(self, settings: Settings) -> None:
        catalogue = settings.catalogue()
        self._admin = admin_client(settings)
        # Not by the admin client, which crashes the process where a group has no coordinator at the moment
        # (confluent-kafka 2.16.1). These never join their groups.
        self._members = {tier: Consumer(consumer_config(settings, tier)) for tier in TIERS}
        self._places: dict[str, list[Place]] = {
            tier: [
                (topic, number)
                for topic in (catalogue.topic(tier), catalogue.steps(tier))
                for number in range(catalogue.specs[topic].partitions)
            ]
            for tier in TIERS
        }

    def close(self) -> None:
        """Let go of the connections."""
        for each in self._members.values():
            each.close()

    def read(self) -> dict[str, dict[Place, Progress]]:
        """By tier and partition. Blocks. Raises ``KafkaException`` where the brokers do not answer.

        A group that has committed nothing in a partition begins at the log's start (R21).
        """
        # What is committed is asked for first: by what is written meanwhile a lag may be too large, never too small.
        committed = self._committed()
        every = [place for places in self._places.values() for place in places]
        ends = self._offsets(every, OffsetSpec.latest())
        starts = self._offsets([place for place in every if place not in committed], OffsetSpec.earliest())
        return {
            tier: {place: Progress(committed.get(place, starts.get(place, 0)), ends[place]) for place in places}
            for tier, places in self._places.items()
        }

    def _committed(self) -> dict[Place, int]:
        committed: dict[Place, int] = {}
        failure: KafkaException | None = None
        for tier, places in self._places.items():
            asked = [TopicPartition(*place) for place in places]
            try:
                found = self._members[tier].committed(asked, timeout=_ANSWER_S)
            except KafkaException as error:
                # Asked all the same are the others: a client looks for its group's coordinator only when it is asked.
                failure = failure or error
                continue
            committed.update({(each.topic, each.partition): each.offset for each in found if each.offset >= 0})
        if failure is not None:
            raise failure
        return committed

    def _offsets(self, places: Sequence[Place], which: OffsetSpec) -> dict[Place, int]:
        if not places:
            return {}
        asked = {TopicPartition(*place): which for place in places}
        answers = self._admin.list_offsets(asked, request_timeout=_ANSWER_S)
        return {(each.topic, each.partition): future.result().offset for each, future in answers.items()}


def waiting_since(settings: Settings, places: Mapping[Place, Progress]) -> dict[Place, float]:
    """For how many seconds the first unfinished record of each partition has been there.

    Reads these records, so it is for a first look only. Blocks for three seconds at the most; partitions whose record
    was not had by then are left out. Raises ``KafkaException`` where the consumer cannot go on.
    """
    lagging = [TopicPartition(*place, progress.next) for place, progress in places.items() if progress.lag]
    found: dict[Place, float] = {}
    if not lagging:
        return found
    small = {"fetch.message.max.bytes": _SMALL_FETCH_BYTES, "queued.min.messages": 1}
    consumer = Consumer({**consumer_config(settings, "webhook-health"), **small})
    try:
        consumer.assign(lagging)
        until = time.monotonic() + _LOOK_S
        while len(found) < len(lagging) and time.monotonic() < until:
            for message in consumer.consume(len(lagging), _POLL_S):
                place = message.topic(), message.partition()
                if message.error() is not None:
                    if message.error().fatal():
                        raise KafkaException(message.error())
                elif place not in found:
                    age_s = now_micros() / 1_000_000 - message.timestamp()[1] / 1000
                    found[place] = max(0.0, age_s)
    finally:
        consumer.close()
    return found
