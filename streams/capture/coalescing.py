"""Of events alike that wait for one another, the last goes and the others end for it.

Decided by the relay alone, from the rows of the schedule that have one gate: the last in the order of the log goes when
its quiet time is over, or when the first has waited as long as it may. The others are published as ``superseded``, each
with the id of the one that goes for it. Nothing is remembered: a relay that dies between the two leaves rows from which
the next one decides anew. What came before a row that went is never carried out after it; and the last row is never
superseded, so that at least one call is made whoever dies.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, RowMapping, case, func, select, text, update

from projections.schedule import SINGLETON_KINDS
from projections.tables import WEBHOOK_SCHEDULE
from schemas.codec import decode_as
from schemas.errors import Undecodable
from schemas.events import TaskReady
from streams.agents.coalescing import KIND, MAX_WAIT
from topics.gates import is_coalesce_gate

SUPERSEDED: Final = "superseded"

ENDED_FOR_OTHERS: Final = frozenset({KIND, SINGLETON_KINDS["skip"], SINGLETON_KINDS["replace"]})
"""Kinds of waits that may end for another event, without having gone."""

_WAITS: Final = WEBHOOK_SCHEDULE.c
# Literal conditions, as the partial index has them.
_ALIKE: Final = text("substr(webhook_schedule.gate, 1, 9) = 'coalesce|'")
_OPEN: Final = text("webhook_schedule.dispatched_at IS NULL AND webhook_schedule.closed_at IS NULL")


_BEHIND: Final = text(
    "webhook_schedule.dispatched_at IS NULL AND webhook_schedule.closed_at IS NULL"
    " AND webhook_schedule.held_by IS NOT NULL"
    " AND webhook_schedule.kind IN ('singleton_skip', 'singleton_replace')"
)
_OTHER: Final = WEBHOOK_SCHEDULE.alias("other")
_IN_LANE: Final = (_OTHER.c.lane == _WAITS.lane, text("other.lane IS NOT NULL AND other.closed_at IS NULL"))
_FIRST: Final = (
    select(_OTHER.c.event_id)
    .where(*_IN_LANE, text("other.held_by IS NULL AND other.kind <> 'cancelled'"))
    .limit(1)
    .correlate(WEBHOOK_SCHEDULE)
    .scalar_subquery()
)
_LATEST: Final = (
    select(_OTHER.c.event_id)
    .where(*_IN_LANE, text("other.held_by IS NOT NULL"))
    .order_by(_OTHER.c.log_offset.desc())
    .limit(1)
    .correlate(WEBHOOK_SCHEDULE)
    .scalar_subquery()
)


def last_of_each(
    connection: Connection, due: Sequence[RowMapping], columns: Sequence[Any], limit: int, full: Iterable[str]
) -> list[Any]:
    """The due rows, with those that wait for others alike replaced by what may be published of all of their gates.

    Where nothing may be yet, the rows' next look is put off, and committed; ``limit`` bounds the rows of one gate.
    """
    rows: list[Any] = []
    seen: set[str] = set()
    for row in due:
        # One that is cancelled waits for nobody.
        if row["kind"] != KIND or not is_coalesce_gate(row["gate"]):
            rows.append(row)
        elif row["gate"] not in seen:
            seen.add(row["gate"])
            rows.extend(_of_gate(connection, row["gate"], columns, limit, frozenset(full)))
    return rows


def ended_in_lanes(connection: Connection, columns: Sequence[Any], limit: int) -> list[Any]:
    """Ends of what waits in a singleton's lane and need not: all that skip, and all but the latest that replace.

    Those that skip end for the one that has the lane, the others for the latest.
    """
    other = case((_WAITS.kind == SINGLETON_KINDS["skip"], _FIRST), else_=_LATEST)
    ended = select(*columns, other.label("other_id")).where(_BEHIND, other != _WAITS.event_id)
    rows = connection.execute(ended.order_by(_WAITS.lane, _WAITS.log_offset).limit(limit)).mappings()
    return [_ended_for(row, row["other_id"]) for row in rows]


def _of_gate(
    connection: Connection, gate: str, columns: Sequence[Any], limit: int, full: frozenset[str]
) -> Iterator[Any]:
    alike = select(*columns, _WAITS.log_offset).where(_ALIKE, _OPEN, _WAITS.gate == gate, _WAITS.kind == KIND)
    found = connection.execute(alike.order_by(_WAITS.log_offset.desc()).limit(limit)).mappings().all()
    gone = _last_gone(connection, gate)
    fresh = [row for row in found if not _is_before(row, gone)]
    if gone is not None:
        yield from (_ended_for(row, gone.event_id) for row in found if _is_before(row, gone))
    if not fresh:
        return
    last = fresh[0]
    ready_at = min(last["due_at"], _first_at(connection, gate, gone, last) + _max_wait(last))
    if ready_at > datetime.now(UTC):
        _put_off(connection, gate, ready_at)
    elif last["target_topic"] not in full:
        yield last
        yield from (_ended_for(row, last["event_id"]) for row in fresh[1:])


def _last_gone(connection: Connection, gate: str) -> Any:
    query = select(_WAITS.event_id, _WAITS.log_offset, _WAITS.dispatched_at)
    went = query.where(_ALIKE, _WAITS.gate == gate, _WAITS.dispatched_at.is_not(None), _WAITS.log_offset.is_not(None))
    return connection.execute(went.order_by(_WAITS.log_offset.desc()).limit(1)).one_or_none()


def _is_before(row: RowMapping, gone: Any) -> bool:
    """Whether a row came before one that went. By its time, too: in a log begun anew places begin anew (R20)."""
    return gone is not None and row["log_offset"] < gone.log_offset and row["created_at"] <= gone.dispatched_at


def _first_at(connection: Connection, gate: str, gone: Any, last: RowMapping) -> datetime:
    """When the first one of those that wait now came."""
    query = select(func.min(_WAITS.created_at)).where(_ALIKE, _OPEN, _WAITS.gate == gate, _WAITS.kind == KIND)
    if gone is not None:
        query = query.where((_WAITS.log_offset > gone.log_offset) | (_WAITS.created_at > gone.dispatched_at))
    first: datetime | None = connection.execute(query).scalar_one()
    came: datetime = last["created_at"]
    return first or came


def _max_wait(row: RowMapping) -> timedelta:
    try:
        return timedelta(seconds=float(decode_as(TaskReady, row["task"]).options.get(MAX_WAIT, 0)))
    except (Undecodable, ValueError):
        # It goes at once, and is parked as what it is.
        return timedelta(0)


def _put_off(connection: Connection, gate: str, until: datetime) -> None:
    """Look again then: what is due is looked at without end, and would keep others from their turn."""
    connection.execute(
        update(WEBHOOK_SCHEDULE)
        .where(_ALIKE, _OPEN, _WAITS.gate == gate, _WAITS.kind == KIND, _WAITS.due_at < until)
        .values(due_at=until)
    )
    connection.commit()


def _ended_for(row: RowMapping, event_id: str) -> Mapping[str, Any]:
    """A row as the end of its event."""
    return dict(row) | {
        "kind": SUPERSEDED,
        "created_at": datetime.now(UTC),
        "reason": f"event {event_id} is carried out for it",
        "result": orjson.dumps({"superseded_by": event_id}).decode(),
    }
