"""Questions to the schedule. Each takes ``tenant_id``: a tenant's own rows only, all tenants' where it is ``None``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, case, func, or_, select, text

from projections.queries import MAX_LIMIT
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_SCHEDULE

_WAITS: Final = WEBHOOK_SCHEDULE
_OPEN: Final = text("webhook_schedule.dispatched_at IS NULL AND webhook_schedule.closed_at IS NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitView:
    """A task that waits. ``lane_position``: events of its strict lane before it; ``None`` without a lane."""

    schedule_id: str
    event_id: str
    tenant_id: str
    tier: str
    endpoint: str
    run: int
    step: int
    attempt: int
    kind: str
    reason: str | None
    gate: str | None
    lane: str | None
    lane_position: int | None
    due_at: datetime
    created_at: datetime


def _position() -> Any:
    other = _WAITS.alias("other")
    before = (
        select(func.count())
        .where(other.c.lane == _WAITS.c.lane, text("other.lane IS NOT NULL AND other.closed_at IS NULL"))
        .where(
            or_(
                other.c.run > _WAITS.c.run,
                (other.c.run == _WAITS.c.run) & (other.c.log_offset < _WAITS.c.log_offset),
            )
        )
        .scalar_subquery()
    )
    return case((_WAITS.c.lane.is_(None), None), else_=before).label("lane_position")


def _query(tenant_id: str | None) -> Select[Any]:
    names = (name for name in WaitView.__dataclass_fields__ if name != "lane_position")
    query = select(*(_WAITS.c[name] for name in names), _position()).where(_OPEN, _WAITS.c.version.is_not(None))
    return query if tenant_id is None else query.where(_WAITS.c.tenant_id == tenant_id)


def open_waits(
    connection: Connection,
    *,
    tenant_id: str | None = None,
    tier: str | None = None,
    lane: str | None = None,
    limit: int = 20,
) -> list[WaitView]:
    """Tasks that wait, the next to be due first; in the order of the lane where one is given.

    Raises ``ValueError`` for a limit outside 1..1000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"the limit is {limit}; it must be from 1 to {MAX_LIMIT}")
    query = _query(tenant_id).limit(limit)
    if tier is not None:
        query = query.where(_WAITS.c.tier == tier)
    if lane is not None:
        query = query.where(_WAITS.c.lane == lane).order_by(_WAITS.c.run.desc(), _WAITS.c.log_offset)
    else:
        query = query.order_by(_WAITS.c.due_at, _WAITS.c.schedule_id)
    return [WaitView(**row) for row in connection.execute(query).mappings()]


def latest_wait(connection: Connection, identifier: str, *, tenant_id: str | None = None) -> RowMapping | None:
    """The whole row of a wait: of a schedule id, or an event's latest one; ``None`` where there is none."""
    query = (
        select(_WAITS)
        .where(or_(_WAITS.c.schedule_id == identifier, _WAITS.c.event_id == identifier), _WAITS.c.version.is_not(None))
        .order_by(*(_WAITS.c[name].desc() for name in ("run", "dispatch_seq", "step", "attempt")))
        .limit(1)
    )
    if tenant_id is not None:
        query = query.where(_WAITS.c.tenant_id == tenant_id)
    return connection.execute(query).mappings().one_or_none()


def outcome_kind(connection: Connection, wait: RowMapping) -> str | None:
    """Kind of what came of the waiting task; ``None`` where nothing has been recorded of it."""
    attempts = WEBHOOK_ATTEMPTS
    names: Sequence[str] = ("accepted_at", "event_id", "run", "step", "attempt")
    query = select(attempts.c.kind).where(*(attempts.c[name] == wait[name] for name in names))
    kind: str | None = connection.execute(query).scalar_one_or_none()
    return kind
