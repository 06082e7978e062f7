"""What a relay publishes from: a table with rows in an order; and the first such table, the outbox."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from sqlalchemy import Connection, RowMapping, Select, delete, select, text, update

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import TaskEvent
from streams.capture.outbox import OUTBOX, SLICES
from streams.capture.pace import crowding
from streams.capture.publishing import Record
from streams.capture.refusals import Refusal
from streams.errors import SetupError
from streams.headers import Headers, record_headers, task_identity
from topics.catalogue import Catalogue

_CHUNK: Final = 500
_LOOK_BEHIND: Final = 20_000
"""So many ids behind a full batch others are looked for: what is looked at costs its time each time."""
_IN_ORDER: Final = text("SET LOCAL enable_sort = off")
"""Else statistics from when the table was empty let PostgreSQL sort all that waits, for each batch."""

_BLOCK_OF_IDS: Final = text(
    "SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('webhook_outbox', 'id')::regclass"
)


class Unpublishable(ValueError):
    """A row that no record can be made of; ``cause`` is the kind of fault, as ``Refusal`` has it."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(cause, reason)


class Feed(Protocol):
    """A table with rows to publish."""

    @property
    def name(self) -> str:
        """Name of the share."""

    @property
    def header(self) -> str:
        """Header that carries the row's id."""

    @property
    def shown_by(self) -> str:
        """The command that shows rows set aside."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that it publishes to."""

    @property
    def lock_keys(self) -> tuple[int, ...]:
        """Numbers of its advisory locks."""

    @property
    def tenures(self) -> tuple[str, ...]:
        """Names of its rows in ``webhook_relays``, one for each lock."""

    def begin(self) -> None:
        """A holder begins to publish: what was kept in memory of an earlier tenure holds no more."""

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

    def tend(self, connection: Connection) -> None:
        """Called every ten seconds: look after what holds rows back."""


class OutboxFeed:
    """Rows of the outbox, in the order of their ids."""

    header: Final = "outbox_id"
    shown_by: Final = "webhook outbox parked list"

    def __init__(
        self,
        catalogue: Catalogue,
        keep: bool,
        share: int = 0,
        shares: int = 1,
    ) -> None:
        """The part ``share`` of ``shares``, from 0 on. ``keep``: published rows stay, with ``published_at``; else they
        are deleted.
        """
        slices = range(share, SLICES, shares)
        self.name = "outbox" if shares == 1 else f"outbox-{share + 1}-of-{shares}"
        self.topics = (catalogue.changes, catalogue.requests)
        # What a takeover does not look for: a record that comes twice there changes nothing (R11, R19).
        self._repeatable = (catalogue.events, catalogue.scheduled)
        self.lock_keys = tuple(slices)
        self.tenures = tuple(f"outbox-{number}" for number in slices)
        self._keep = keep
        self._slices = slices

    def begin(self) -> None:
        """See ``Feed``."""

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
        """See ``Feed``. Half of a full batch is for those who wait behind a tenant that would fill it alone (R15).

        Of each tenant the first rows are taken, and a key is of one tenant: so each key keeps its order.
        """
        waiting = self._waiting(full)
        if connection.dialect.name == "postgresql":
            connection.execute(_IN_ORDER)
        rows = connection.execute(waiting.limit(limit)).mappings().all()
        crowd = crowding(rows, limit // 2) if len(rows) == limit else None
        if crowd is not None:
            behind = waiting.where(OUTBOX.c.tenant_id != crowd, OUTBOX.c.id <= rows[-1]["id"] + _LOOK_BEHIND)
            others = connection.execute(behind.limit(limit // 2)).mappings().all()
            own = [row for row in rows if row["tenant_id"] == crowd][: limit - len(others)]
            return sorted([*own, *others], key=lambda row: int(row["id"]))
        return rows

    def _waiting(self, full: Iterable[str]) -> Select[Any]:
        query = (
            select(OUTBOX)
            .where(OUTBOX.c.published_at.is_(None), OUTBOX.c.parked_at.is_(None), OUTBOX.c.topic.not_in(list(full)))
            .order_by(OUTBOX.c.id)
        )
        # From the first id on, each time: who got one long ago may commit just now, and the next row of its key, which
        # waited for it, must not be published before it.
        return query.where(OUTBOX.c.slice.in_(self._slices)) if len(self._slices) < SLICES else query

    def row_id(self, row: RowMapping) -> str:
        """See ``Feed``."""
        identity: str = row["record_id"]
        return identity

    def record(self, row: RowMapping) -> Record:
        """See ``Feed``."""
        known = (*self.topics, *self._repeatable)
        if row["topic"] not in known:
            raise Unpublishable("unknown_topic", f"topic {row['topic']!r} is none of {', '.join(known)}")
        headers = _headers(row["payload"])
        try:
            own = orjson.loads(row["headers"] or "{}")
        except orjson.JSONDecodeError as error:
            raise Unpublishable("bad_headers", f"headers are no JSON object: {error}") from error
        headers.extend((str(name), str(value).encode()) for name, value in own.items())
        headers.append((self.header, self.row_id(row).encode()))
        return Record(self.row_id(row), row["topic"], row["record_key"], row["payload"], headers)

    def mark(self, connection: Connection, rows: Sequence[str]) -> None:
        """See ``Feed``."""
        for chunk in chunks(rows):
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

    def tend(self, connection: Connection) -> None:
        """See ``Feed``."""


def _headers(payload: bytes) -> Headers:
    try:
        event = decode(payload)
    except Undecodable as error:
        raise Unpublishable("undecodable", f"the payload cannot be read: {error}") from error
    headers = record_headers(event)
    if isinstance(event, TaskEvent):
        headers += [("kind", event.kind.encode()), ("identity", task_identity(event).encode())]
    return headers


def chunks(rows: Sequence[str]) -> Iterable[Sequence[Any]]:
    """Ids in pieces that one statement takes."""
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
