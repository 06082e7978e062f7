"""What an embedded start needs of retries, replays and ends by hand: the log forgets them, the outbox keeps them.

Their rows stay in the outbox, published, until the tables have what they say (R22).
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, String, cast, delete, exists, select

from projections.history import RANK
from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as
from schemas.events import TaskEvent
from schemas.kinds import KINDS
from streams.capture.outbox import OUTBOX

BY_HAND_TYPES: Final = ("TaskEvent", "TaskScheduled")
"""Record types of rows that only retries, replays and ends by hand have."""

_AT_ONCE: Final = 5000
_CHUNK: Final = 500
_EVENTS: Final = WEBHOOK_EVENTS.c

_TASK: Final = (
    _EVENTS.event_id
    + "|"
    + cast(_EVENTS.run, String)
    + "|"
    + cast(_EVENTS.step, String)
    + "|"
    + cast(_EVENTS.attempt, String)
    + "|"
    + cast(_EVENTS.dispatch_seq, String)
)
IS_ON_ITS_WAY: Final = exists().where(OUTBOX.c.record_type == "TaskScheduled", OUTBOX.c.record_id == _TASK)
"""Whether the next task of an event of the history is in the outbox."""


def forget_projected(connection: Connection) -> None:
    """Delete published rows whose records are in the tables."""
    published = OUTBOX.c.published_at.is_not(None)
    scheduled = exists().where(WEBHOOK_SCHEDULE.c.schedule_id == OUTBOX.c.record_id)
    connection.execute(delete(OUTBOX).where(published, OUTBOX.c.record_type == "TaskScheduled", scheduled))
    query = select(OUTBOX.c.record_id, OUTBOX.c.payload).where(published, OUTBOX.c.record_type == "TaskEvent")
    rows = connection.execute(query.order_by(OUTBOX.c.id).limit(_AT_ONCE)).all()
    for start in range(0, len(rows), _CHUNK):
        done = _projected(connection, rows[start : start + _CHUNK])
        connection.execute(delete(OUTBOX).where(OUTBOX.c.record_id.in_(done)))


def _projected(connection: Connection, rows: Sequence[Any]) -> list[str]:
    said = {row.record_id: decode_as(TaskEvent, row.payload) for row in rows}
    ids = {each.event_id for each in said.values()}
    query = select(_EVENTS.event_id, *(_EVENTS[name] for name in RANK)).where(_EVENTS.event_id.in_(ids))
    known = {row[0]: tuple(row[1:]) for row in connection.execute(query)}
    return [record_id for record_id, event in said.items() if _rank(event) <= known.get(event.event_id, ())]


def _rank(event: TaskEvent) -> tuple[int, ...]:
    return event.run, event.dispatch_seq, event.step, event.attempt, KINDS[event.kind].rank
