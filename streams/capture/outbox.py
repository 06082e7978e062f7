"""The outbox: what has to reach Kafka, written in the transaction of the change itself (R11)."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeAlias

import orjson
import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from handlers.call_backs import CALL_BACK_KEY, CALL_BACK_TRIGGER
from handlers.requests import DEDUPE_KEY
from handlers.service import Accepted
from schemas.codec import encode
from schemas.errors import Retryable
from schemas.events import Micros, ModelChanged, WebhookRequested, now_micros, to_datetime
from streams.capture.copying import (
    can_copy,
    copy_rows,
    data_field,
    fields,
    instant_field,
    integer_field,
    text_field,
)
from streams.capture.dedupe import first_alike
from topics.catalogue import Catalogue
from topics.keys import partition_key

log = structlog.get_logger(__name__)

SLICES: Final = 16
"""Key slices. Each has one active relay; the number is part of the data and never changes."""

METADATA: Final = MetaData()

OUTBOX: Final = Table(
    "webhook_outbox",
    METADATA,
    # Ids of one key rise in the order of its commits, because the row of the model is locked by then; a sequence
    # that hands out ids in blocks would break that.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(always=False, cache=1), primary_key=True),
    Column("record_id", String, nullable=False, unique=True),
    Column("topic", String, nullable=False),
    Column("record_key", LargeBinary, nullable=False),
    Column("record_type", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", Text),
    Column("tenant_id", String, nullable=False),
    Column("slice", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    Column("parked_at", DateTime(timezone=True)),
    Column("parked_reason", Text),
    sqlite_autoincrement=True,
)
"""One row for each record to publish. Debezium's outbox router can read it: id = record_id, aggregatetype = topic,
aggregateid = record_key, type = record_type. ``slice`` is 0 to ``SLICES`` - 1."""

Index(
    "ix_webhook_outbox_waiting",
    OUTBOX.c.slice,
    OUTBOX.c.id,
    postgresql_where=OUTBOX.c.published_at.is_(None) & OUTBOX.c.parked_at.is_(None),
    sqlite_where=OUTBOX.c.published_at.is_(None) & OUTBOX.c.parked_at.is_(None),
)

RELAYS: Final = Table(
    "webhook_relays",
    METADATA,
    Column("name", String, primary_key=True),
    Column("epoch", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    Column("signed_off_at", DateTime(timezone=True)),
    Column("log_ends", Text, nullable=False),
)
"""Who published last from this database: a row for each slice, and one for the schedule. ``log_ends`` is a JSON object,
topic -> partition -> offset: everything the holder published and did not mark lies at or beyond it (R7)."""


class OutboxUnavailable(Retryable):
    """The database of the outbox did not take a row: nothing was accepted, try again later."""

    code = "outbox_unavailable"


class OutboxRow(NamedTuple):
    """A record to publish: ``payload`` is the framed event, ``record_type`` the name of its schema's record.

    ``record_id`` is the id of what it tells (a change's or an event's): a second row with it is refused.
    """

    topic: str
    record_key: bytes
    payload: bytes
    record_type: str
    headers: Mapping[str, str] | None
    tenant_id: str
    record_id: str


def slice_of(record_key: bytes) -> int:
    """Slice of a key, 0 to ``SLICES`` - 1; all records of one key have the same."""
    return zlib.crc32(record_key) % SLICES


_COPIED: Final = (
    *("topic", "record_type", "tenant_id", "headers", "created_at"),
    *("slice", "record_id", "record_key", "payload"),
)
_INSERT: Final = insert(OUTBOX)


def append(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write rows, in this order, in the caller's transaction. They are published after its commit, or never."""
    if not rows:
        return
    now = now_micros()
    if can_copy(connection):
        copy_rows(connection, OUTBOX.name, _COPIED, _binary(rows, now))
        return
    created_at = to_datetime(now)
    values = [
        {
            "record_id": row.record_id,
            "topic": row.topic,
            "record_key": row.record_key,
            "record_type": row.record_type,
            "payload": row.payload,
            "headers": _headers_text(row),
            "tenant_id": row.tenant_id,
            "slice": slice_of(row.record_key),
            "created_at": created_at,
        }
        for row in rows
    ]
    connection.execute(_INSERT, values)


def _binary(rows: Sequence[OutboxRow], now: Micros) -> Iterator[bytes]:
    """The rows as PostgreSQL reads them: what rows share, mostly all but the last four fields, is encoded once."""
    shared: dict[tuple[object, ...], bytes] = {}
    end = instant_field(now)
    for row in rows:
        about = (row.topic, row.record_type, row.tenant_id, _headers_text(row))
        begin = shared.get(about)
        if begin is None:
            texts = [text_field(each) for each in about]
            begin = shared[about] = b"".join((fields(len(_COPIED)), *texts, end))
        key = row.record_key
        yield b"".join(
            (
                begin,
                integer_field(slice_of(key)),
                data_field(row.record_id.encode()),
                data_field(key),
                data_field(row.payload),
            )
        )


def _headers_text(row: OutboxRow) -> str | None:
    return orjson.dumps(dict(row.headers)).decode() if row.headers else None


def request_row(request: WebhookRequested, topic: str) -> OutboxRow:
    """The row of a request. Raises ``ValueError`` for one that does not fit its schema."""
    return OutboxRow(
        topic=topic,
        record_key=_key_of(request),
        payload=encode(request),
        record_type="WebhookRequested",
        headers=None,
        tenant_id=request.tenant_id,
        record_id=request.event_id,
    )


def _key_of(request: WebhookRequested) -> bytes:
    if request.trigger == CALL_BACK_TRIGGER:
        # Of several with one key the first counts, so they have to keep their order.
        return partition_key(request.tenant_id, request.trigger, request.options.get(CALL_BACK_KEY), request.event_id)
    return partition_key(request.tenant_id, request.model, request.model_id, request.event_id)


def change_row(change: ModelChanged, topic: str) -> OutboxRow:
    """The row that publishes a change to ``topic``, in the order of its model's row."""
    return OutboxRow(
        topic=topic,
        record_key=partition_key(change.tenant_id, change.model, change.model_id, change.change_id),
        payload=encode(change),
        record_type="ModelChanged",
        headers=None,
        tenant_id=change.tenant_id,
        record_id=change.change_id,
    )


Claim: TypeAlias = Callable[[Connection, str], str]
"""Called in the transaction that stores a request, before it, with the event's id. Gives the id to answer with: another
one says that the request was stored before under that one, and then it is not stored again."""


class OutboxSink:
    """Takes requests for webhooks into the outbox of the system's database. Safe to use from several threads."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        wake: Callable[[], None] | None = None,
        is_full: Callable[[], bool] | None = None,
    ) -> None:
        """``wake`` is called after each commit: a relay in the same process then looks at once.

        While ``is_full`` says so, nothing more is taken.
        """
        self._engine = engine
        self._requests = catalogue.requests
        self._changes = catalogue.changes
        self._wake = wake
        self._is_full = is_full

    def accept(self, request: WebhookRequested, claim: Claim | None = None) -> Accepted:
        """Store the request; when this returns it is committed. Blocks for the time of one transaction.

        What ``claim`` raises is raised, and nothing is stored. Where the request is one of several alike
        (``dedupe_key``) and not the first, the first one's id is given.

        Raises ``OutboxUnavailable`` where the database did not answer or refused, or too much waits in it, and
        ``ValueError`` for a request that does not fit its schema; then nothing is stored. (A connection that breaks
        during the commit leaves it open whether it is: asking again with the same ``event_id`` gives the same event.)
        """
        row = request_row(request, self._requests)
        event_id = request.event_id
        try:
            with self._transaction() as connection:
                kept = connection.begin_nested() if DEDUPE_KEY in request.options else None
                first = first_alike(connection, request)
                answer = first or event_id
                event_id = answer if claim is None else claim(connection, answer)
                if event_id == answer and first is None:
                    append(connection, [row])
                elif event_id != answer and kept is not None:
                    # This very request was answered before: it stands for no other event now.
                    kept.rollback()
        except IntegrityError:
            # The same request was stored before, and its answer lost: it is accepted once.
            log.info("request stored already", event_id=request.event_id)
        return Accepted(event_id=event_id)

    def accept_changes(self, changes_in: Callable[[Connection], Sequence[ModelChanged]]) -> None:
        """Store changes, in their order: what ``changes_in`` gives, called in their transaction.

        Blocks and raises as ``accept`` does; what ``changes_in`` raises is raised, and nothing is stored.
        """
        try:
            with self._transaction() as connection:
                append(connection, [change_row(change, self._changes) for change in changes_in(connection)])
        except IntegrityError as error:
            # One of them waits to be published: until then it cannot be told from a new one.
            raise OutboxUnavailable("a change with the same id waits to be published; try again later") from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction, committed when the block ends; then the relay is woken."""
        try:
            if self._is_full is not None and self._is_full():
                raise OutboxUnavailable("too much waits to be published: Kafka or the relay is away; try again later")
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            cause = getattr(error, "orig", None) or error
            raise OutboxUnavailable(
                f"the request was not stored, because its database {self._engine.url.render_as_string()} "
                f"did not take it ({cause}); try again when the database is back"
            ) from error
        if self._wake is not None:
            self._wake()
