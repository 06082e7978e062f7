"""The two tables that a relay publishes from: the outbox and the schedule."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from sqlalchemy import Connection, RowMapping, delete, select, text, update

from projections.tables import WEBHOOK_SCHEDULE
from schemas.codec import decode
from schemas.errors import Undecodable
from streams.capture.outbox import OUTBOX, SLICES
from streams.capture.publishing import Record
from streams.errors import SetupError
from streams.headers import Headers, record_headers
from topics.catalogue import Catalogue

_CHUNK: Final = 500
_BLOCK_OF_IDS: Final = text(
    "SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('webhook_outbox', 'id')::regclass"
)


class Unpublishable(ValueError):
    """A row that no record can be made of."""


class Feed(Protocol):
    """A table with rows to publish."""

    @property
    def name(self) -> str:
        """Name of the share; also of its row in ``webhook_relays``."""

    @property
    def header(self) -> str:
        """Header that carries the row's id."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that it publishes to."""

    @property
    def lock_keys(self) -> tuple[int, ...]:
        """Numbers of its advisory locks."""

    def check(self, connection: Connection) -> None:
        """Raise ``SetupError`` where the table cannot keep the order of its rows."""

    def read(self, connection: Connection, limit: int, full: Iterable[str]) -> Sequence[RowMapping]:
        """The next rows in order, without those for topics that are full."""

    def row_id(self, row: RowMapping) -> str:
        """Id of a row."""

    def record(self, row: RowMapping) -> Record:
        """The record that a row asks for. Raises ``Unpublishable``."""

    def mark(self, connection: Connection, rows: Sequence[str]) -> None:
        """These rows are in Kafka. May be told again."""

    def park(self, connection: Connection, row: str, reason: str) -> None:
        """Set a row aside that can never be published."""


class OutboxFeed:
    """Rows of the outbox, in the order of their ids."""

    header: Final = "outbox_id"

    def __init__(self, catalogue: Catalogue, keep: bool, slices: Sequence[int] = range(SLICES)) -> None:
        """``keep``: published rows stay, with ``published_at``; else they are deleted."""
        self.name = "outbox" if len(slices) == SLICES else f"outbox-{min(slices)}-{max(slices)}"
        self.topics = (catalogue.changes, catalogue.requests)
        self.lock_keys = tuple(slices)
        self._keep = keep
        self._slices = slices

    def check(self, connection: Connection) -> None:
        """See ``Feed``. A sequence that hands out ids in blocks would number a key's later commits lower."""
        if connection.dialect.name != "postgresql":
            return
        block = connection.execute(_BLOCK_OF_IDS).scalar_one_or_none()
        if block not in (None, 1):
            raise SetupError(
                f"The ids of webhook_outbox are handed out in blocks of {block}: keys would lose their order.",
                "Run ALTER TABLE webhook_outbox ALTER COLUMN id SET CACHE 1.",
            )

    def read(self, connection: Connection, limit: int, full: Iterable[str]) -> Sequence[RowMapping]:
        """See ``Feed``."""
        query = (
            select(OUTBOX)
            .where(OUTBOX.c.published_at.is_(None), OUTBOX.c.parked_at.is_(None), OUTBOX.c.topic.not_in(list(full)))
            .order_by(OUTBOX.c.id)
            .limit(limit)
        )
        if len(self._slices) < SLICES:
            query = query.where(OUTBOX.c.slice.in_(self._slices))
        return connection.execute(query).mappings().all()

    def row_id(self, row: RowMapping) -> str:
        """See ``Feed``."""
        identity: str = row["record_id"]
        return identity

    def record(self, row: RowMapping) -> Record:
        """See ``Feed``."""
        if row["topic"] not in self.topics:
            raise Unpublishable(f"topic {row['topic']!r} is none of {', '.join(self.topics)}")
        headers = _headers(row["payload"])
        try:
            own = orjson.loads(row["headers"] or "{}")
        except orjson.JSONDecodeError as error:
            raise Unpublishable(f"headers are no JSON object: {error}") from error
        headers.extend((str(name), str(value).encode()) for name, value in own.items())
        headers.append((self.header, self.row_id(row).encode()))
        return Record(self.row_id(row), row["topic"], row["record_key"], row["payload"], headers)

    def mark(self, connection: Connection, rows: Sequence[str]) -> None:
        """See ``Feed``."""
        for chunk in _chunks(rows):
            if self._keep:
                connection.execute(
                    update(OUTBOX).where(OUTBOX.c.record_id.in_(chunk)).values(published_at=datetime.now(UTC))
                )
            else:
                connection.execute(delete(OUTBOX).where(OUTBOX.c.record_id.in_(chunk)))

    def park(self, connection: Connection, row: str, reason: str) -> None:
        """See ``Feed``."""
        connection.execute(
            update(OUTBOX).where(OUTBOX.c.record_id == row).values(parked_at=datetime.now(UTC), parked_reason=reason)
        )


class ScheduleFeed:
    """Rows of the schedule that are due, in the order in which they became so."""

    header: Final = "schedule_id"
    name: Final = "schedule"
    # Beyond every slice.
    lock_keys: Final = (SLICES,)

    def __init__(self, catalogue: Catalogue) -> None:
        tiers = catalogue.tier_topics
        self.topics = tuple(topic for tier in tiers for topic in (catalogue.topic(tier), catalogue.steps(tier)))

    def check(self, connection: Connection) -> None:
        """See ``Feed``. Its order is that of the due times."""

    def read(self, connection: Connection, limit: int, full: Iterable[str]) -> Sequence[RowMapping]:
        """See ``Feed``."""
        waits = WEBHOOK_SCHEDULE.c
        query = (
            select(waits.schedule_id, waits.target_topic, waits.record_key, waits.task)
            .where(waits.dispatched_at.is_(None), waits.closed_at.is_(None), waits.due_at <= datetime.now(UTC))
            .where(waits.target_topic.not_in(list(full)))
            .order_by(waits.due_at, waits.schedule_id)
            .limit(limit)
        )
        return connection.execute(query).mappings().all()

    def row_id(self, row: RowMapping) -> str:
        """See ``Feed``."""
        identity: str = row["schedule_id"]
        return identity

    def record(self, row: RowMapping) -> Record:
        """See ``Feed``."""
        if row["target_topic"] not in self.topics:
            raise Unpublishable(f"topic {row['target_topic']!r} is of no tier")
        if row["task"] is None or row["record_key"] is None:
            raise Unpublishable("the row has no task or no key")
        headers = [*_headers(row["task"]), (self.header, self.row_id(row).encode())]
        return Record(self.row_id(row), row["target_topic"], row["record_key"], row["task"], headers)

    def mark(self, connection: Connection, rows: Sequence[str]) -> None:
        """See ``Feed``."""
        waits = WEBHOOK_SCHEDULE
        for chunk in _chunks(rows):
            connection.execute(
                update(waits)
                .where(waits.c.schedule_id.in_(chunk), waits.c.dispatched_at.is_(None))
                .values(dispatched_at=datetime.now(UTC))
            )

    def park(self, connection: Connection, row: str, reason: str) -> None:
        """See ``Feed``."""
        waits = WEBHOOK_SCHEDULE
        connection.execute(
            update(waits)
            .where(waits.c.schedule_id == row)
            .values(closed_at=datetime.now(UTC), reason=f"cannot be published: {reason}")
        )


def _headers(payload: bytes) -> Headers:
    try:
        return record_headers(decode(payload))
    except Undecodable as error:
        raise Unpublishable(f"the payload cannot be read: {error}") from error


def _chunks(rows: Sequence[str]) -> Iterable[Sequence[Any]]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
