"""Triggers that are alike become one event: a key is kept in the transaction that stores the first of them.

So of twenty that come at once nineteen are answered with the first one's id, and no key is without its event. How many
were, and when the last of them came, stays beside the key.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    delete,
    exists,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from handlers.requests import DEDUPE_FOR_S, DEDUPE_KEY
from projections.tables import WEBHOOK_EVENTS, UtcDateTime
from schemas.events import WebhookRequested
from schemas.kinds import FINAL_KINDS

_UNKNOWN_AFTER: Final = timedelta(days=1)
"""An event of which nothing is recorded for so long was given up; its key holds nobody up any more."""
_KEPT: Final = timedelta(days=7)

METADATA: Final = MetaData()

KEYS: Final = Table(
    "webhook_dedupe_keys",
    METADATA,
    Column("tenant_id", String, primary_key=True),
    Column("endpoint", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("event_id", String, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("repeats", Integer, nullable=False),
    Column("repeated_at", UtcDateTime),
)
"""The first event of a key. ``expires_at`` ``None``: the key is free again when that event has ended."""
Index("ix_webhook_dedupe_keys_created_at", KEYS.c.created_at)
Index("ix_webhook_dedupe_keys_event_id", KEYS.c.event_id)

_EVENT: Final = exists().where(WEBHOOK_EVENTS.c.event_id == KEYS.c.event_id)
_ENDED: Final = _EVENT.where(WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))


def first_alike(connection: Connection, request: WebhookRequested) -> str | None:
    """Id of the event that stands for a request, in the caller's transaction; ``None``: the request is the first.

    Waits for a transaction that is just keeping the same key.
    """
    key = request.options.get(DEDUPE_KEY)
    if key is None:
        return None
    now = datetime.now(UTC)
    for_s = request.options.get(DEDUPE_FOR_S)
    row = {
        "tenant_id": request.tenant_id,
        "endpoint": request.endpoint,
        "key": key,
        "event_id": request.event_id,
        "expires_at": None if for_s is None else now + timedelta(seconds=int(for_s)),
        "created_at": now,
        "repeats": 0,
        "repeated_at": None,
    }
    columns = KEYS.c
    free = or_(
        columns.expires_at <= now,
        and_(columns.expires_at.is_(None), _ENDED),
        and_(columns.expires_at.is_(None), columns.created_at < now - _UNKNOWN_AFTER, ~_EVENT),
    )
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(KEYS).values(row)
    renewed = {name: insert.excluded[name] for name in row if name not in ("tenant_id", "endpoint", "key")}
    kept = insert.on_conflict_do_update(index_elements=list(KEYS.primary_key), set_=renewed, where=free)
    if connection.execute(kept.returning(columns.event_id)).scalar_one_or_none() is not None:
        return None
    mine = (columns[name] == row[name] for name in ("tenant_id", "endpoint", "key"))
    repeat = update(KEYS).where(*mine).values(repeats=columns.repeats + 1, repeated_at=now)
    first: str = connection.execute(repeat.returning(columns.event_id)).scalar_one()
    return first


def repeats_of(connection: Connection, event_id: str) -> tuple[int, datetime | None]:
    """How many triggers were answered with an event's id, and when the last of them came."""
    query = select(KEYS.c.repeats, KEYS.c.repeated_at).where(KEYS.c.event_id == event_id)
    found = connection.execute(query).first()
    return (0, None) if found is None else (found.repeats, found.repeated_at)


def prune(engine: Engine) -> int:
    """Forget keys that have been free for days; gives how many. Blocks."""
    before = datetime.now(UTC) - _KEPT
    ended = and_(KEYS.c.expires_at.is_(None), KEYS.c.created_at < before, or_(_ENDED, ~_EVENT))
    with engine.begin() as connection:
        return connection.execute(delete(KEYS).where(or_(KEYS.c.expires_at < before, ended))).rowcount
