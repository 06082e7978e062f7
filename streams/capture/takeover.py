"""What a relay leaves to the next one, and how that finds out which rows are in Kafka already (R7)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import orjson
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from sqlalchemy import Engine, insert, select, update

from streams.capture.outbox import RELAYS
from streams.headers import find_header
from topics.catalogue import Catalogue

LogEnds: TypeAlias = dict[str, dict[int, int]]
"""Offset of the next record, by topic and partition."""

_REQUEST_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.5
_READ_AT_ONCE: Final = 2000


def log_ends(admin: AdminClient, catalogue: Catalogue, topics: Iterable[str]) -> LogEnds:
    """Present ends of topics. Raises ``KafkaException`` where the brokers do not answer within 10 s."""
    request = {
        TopicPartition(topic, number): OffsetSpec.latest()
        for topic in topics
        for number in range(catalogue.specs[topic].partitions)
    }
    ends: LogEnds = {}
    for partition, answer in admin.list_offsets(request, request_timeout=_REQUEST_TIMEOUT_S).items():
        # The client itself ends an answer that is late; a limit of ours beside it would raise something else.
        ends.setdefault(partition.topic, {})[partition.partition] = answer.result().offset
    return ends


def published_rows(
    consumer_config: Mapping[str, Any], header: str, start: LogEnds, end: LogEnds, may_go_on: Callable[[], bool]
) -> list[str]:
    """Row ids in the records from ``start`` to ``end``, read by their headers alone; in no order.

    A partition that ``start`` lacks is read from its beginning. Ends early, with what it has, without ``may_go_on``.
    """
    wanted = {
        (topic, number): last
        for topic, partitions in end.items()
        for number, last in partitions.items()
        if last > start.get(topic, {}).get(number, 0)
    }
    if not wanted:
        return []
    consumer = Consumer({**consumer_config, "enable.partition.eof": False})
    found: list[str] = []
    try:
        consumer.assign(
            [TopicPartition(topic, number, start.get(topic, {}).get(number, 0)) for topic, number in wanted]
        )
        while wanted and may_go_on():
            for message in consumer.consume(_READ_AT_ONCE, _POLL_S):
                if message.error() is None:
                    row = find_header(message.headers(), header)
                    if row is not None:
                        found.append(row.decode())
            # Positions, not offsets seen: the last offsets before an end may be no records.
            for place in consumer.position([TopicPartition(topic, number) for topic, number in wanted]):
                if place.offset >= wanted[place.topic, place.partition]:
                    del wanted[place.topic, place.partition]
    finally:
        consumer.close()
    return found


class Tenure:
    """The row in ``webhook_relays`` that says who publishes a share, and from where its traces are to be looked for."""

    def __init__(self, engine: Engine, name: str, epoch: str, holder: str) -> None:
        self._engine = engine
        self._name = name
        self._epoch = epoch
        self._holder = holder
        self._own = (RELAYS.c.name == name, RELAYS.c.holder == holder)

    def unclean_ends(self) -> LogEnds | None:
        """Where to look for what the former holder published; ``None`` where it left nothing in doubt."""
        with self._engine.connect() as connection:
            row = connection.execute(select(RELAYS).where(RELAYS.c.name == self._name)).mappings().one_or_none()
        if row is None or row["epoch"] != self._epoch or row["signed_off_at"] is not None:
            return None
        ends: dict[str, dict[str, int]] = orjson.loads(row["log_ends"])
        return {
            topic: {int(number): offset for number, offset in partitions.items()} for topic, partitions in ends.items()
        }

    def begin(self, ends: LogEnds) -> None:
        """Nothing of this holder lies before ``ends``."""
        values = {
            "epoch": self._epoch,
            "holder": self._holder,
            "taken_at": datetime.now(UTC),
            "signed_off_at": None,
            "log_ends": _text(ends),
        }
        with self._engine.begin() as connection:
            changed = connection.execute(update(RELAYS).where(RELAYS.c.name == self._name).values(values))
            if changed.rowcount == 0:
                connection.execute(insert(RELAYS).values(name=self._name, **values))

    def advance(self, ends: LogEnds) -> None:
        """Everything published before ``ends`` is marked. Nothing is noted where another holder has begun."""
        with self._engine.begin() as connection:
            connection.execute(update(RELAYS).where(*self._own).values(log_ends=_text(ends)))

    def sign_off(self) -> None:
        """Everything published is marked, and nothing more will be: the next holder need not wait."""
        with self._engine.begin() as connection:
            connection.execute(update(RELAYS).where(*self._own).values(signed_off_at=datetime.now(UTC)))


def _text(ends: LogEnds) -> str:
    return orjson.dumps(ends, option=orjson.OPT_NON_STR_KEYS).decode()
