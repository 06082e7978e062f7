"""What a relay leaves to the next one, and how that finds out which rows are in Kafka already (R7)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """The rows in ``webhook_relays`` that say who publishes a share, and from where its traces are to be looked for.

    A share has one row for each of its slices, so that it finds its predecessors' however they had split the slices.
    """

    def __init__(self, engine: Engine, names: Sequence[str], epoch: str, holder: str) -> None:
        self._engine = engine
        self._names = names
        self._epoch = epoch
        self._holder = holder
        self._own = (RELAYS.c.name.in_(names), RELAYS.c.holder == holder)

    def unclean_ends(self) -> LogEnds | None:
        """Where to look for what former holders published; ``None`` where they left nothing in doubt."""
        in_doubt = select(RELAYS.c.log_ends).where(
            RELAYS.c.name.in_(self._names), RELAYS.c.epoch == self._epoch, RELAYS.c.signed_off_at.is_(None)
        )
        with self._engine.connect() as connection:
            texts = set(connection.execute(in_doubt).scalars())
        if not texts:
            return None
        return _least([_ends(text) for text in texts])

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
            known = set(
                connection.execute(
                    update(RELAYS).where(RELAYS.c.name.in_(self._names)).values(values).returning(RELAYS.c.name)
                ).scalars()
            )
            new = [{"name": name, **values} for name in self._names if name not in known]
            if new:
                connection.execute(insert(RELAYS), new)

    def advance(self, ends: LogEnds) -> None:
        """Everything published before ``ends`` is marked. Nothing is noted where another holder has begun."""
        with self._engine.begin() as connection:
            connection.execute(update(RELAYS).where(*self._own).values(log_ends=_text(ends)))

    def sign_off(self) -> None:
        """Everything published is marked, and nothing more will be: the next holder need not wait."""
        with self._engine.begin() as connection:
            connection.execute(update(RELAYS).where(*self._own).values(signed_off_at=datetime.now(UTC)))


def _least(several: Sequence[LogEnds]) -> LogEnds:
    """Where all of them lie before; a partition that one lacks is left out, and so read from its beginning."""
    first, *others = several
    return {
        topic: {
            number: min(offset, *(each[topic][number] for each in others)) if others else offset
            for number, offset in partitions.items()
            if all(number in each.get(topic, {}) for each in others)
        }
        for topic, partitions in first.items()
    }


def _ends(text: str) -> LogEnds:
    found: dict[str, dict[str, int]] = orjson.loads(text)
    return {topic: {int(number): offset for number, offset in each.items()} for topic, each in found.items()}


def _text(ends: LogEnds) -> str:
    return orjson.dumps(ends, option=orjson.OPT_NON_STR_KEYS).decode()
