"""Questions to the views. Each takes ``tenant_id``: a tenant's own rows only, all tenants' where it is ``None``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, Select, Table, func, or_, select

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS

MAX_LIMIT: Final = 1000
ViewT = TypeVar("ViewT")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event as lists show it. ``attempts`` counts those of all its runs, ``handler`` is the latest one."""

    event_id: str
    tenant_id: str
    accepted_at: datetime
    tier: str | None
    endpoint: str | None
    event_type: str | None
    model: str | None
    model_id: str | None
    trigger: str | None
    priority: int | None
    status: str
    kind: str
    run: int
    step: int
    attempt: int
    attempts: int
    handler: str | None
    error: str | None
    error_code: str | None
    next_due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime

    @property
    def duration_ms(self) -> float | None:
        """From the first start of the latest run to its end, in milliseconds; ``None`` while it lasts."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds() * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are meant; ``None`` or empty: whatever there is.

    ``error`` is a code, or a text in the error. ``since`` and ``before`` bound the acceptance, the latter excluded.
    """

    tenant_id: str | None = None
    statuses: Sequence[str] = ()
    tier: str | None = None
    endpoint: str | None = None
    event_type: str | None = None
    error: str | None = None
    model: str | None = None
    model_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None


EVERYTHING: Final = EventFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDetail(EventSummary):
    """An event with all that is known of it. Payload, result and results are JSON texts."""

    dispatch_seq: int
    delay_s: int | None
    runs_on: str | None
    payload: str | None
    result: str | None
    results: str | None
    failover_from: str | None
    routing_rule: str | None
    settings_entry: str | None
    requested_by: str | None
    caused_by: str | None
    next_topic: str | None
    next_step: int | None
    next_attempt: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try of one step."""

    run: int
    step: int
    attempt: int
    tier: str | None
    kind: str
    handler: str | None
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    result: str | None
    error: str | None
    error_code: str | None
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCount:
    """How many events of a tier have a status. ``tier`` is ``None`` where their acceptance is not projected yet."""

    tier: str | None
    status: str
    events: int


_ATTEMPTS: Final = (
    select(func.count())
    .select_from(WEBHOOK_ATTEMPTS)
    .where(
        WEBHOOK_ATTEMPTS.c.accepted_at == WEBHOOK_EVENTS.c.accepted_at,
        WEBHOOK_ATTEMPTS.c.event_id == WEBHOOK_EVENTS.c.event_id,
    )
    .correlate(WEBHOOK_EVENTS)
    .scalar_subquery()
    .label("attempts")
)


def _columns(table: Table, view: type[Any]) -> list[Any]:
    return [_ATTEMPTS if each.name == "attempts" else table.c[each.name] for each in fields(view)]


def _views(view: type[ViewT], rows: Iterable[Row[Any]]) -> list[ViewT]:
    return [view(**row._mapping) for row in rows]


def _of_tenant(query: Select[Any], table: Table, tenant_id: str | None) -> Select[Any]:
    return query if tenant_id is None else query.where(table.c.tenant_id == tenant_id)


def recent_events(connection: Connection, which: EventFilter = EVERYTHING, limit: int = 20) -> list[EventSummary]:
    """The latest accepted events that are meant, newest first: at most ``limit``.

    Raises ``ValueError`` for a limit outside 1..1000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"the limit is {limit}; it must be from 1 to {MAX_LIMIT}")
    events = WEBHOOK_EVENTS
    query = select(*_columns(events, EventSummary)).order_by(events.c.accepted_at.desc(), events.c.event_id.desc())
    for name in ("tier", "endpoint", "event_type", "model", "model_id"):
        value = getattr(which, name)
        if value is not None:
            query = query.where(events.c[name] == value)
    if which.statuses:
        query = query.where(events.c.status.in_(which.statuses))
    if which.error is not None:
        text = events.c.error.icontains(which.error, autoescape=True)
        query = query.where(or_(events.c.error_code == which.error, text))
    if which.since is not None:
        query = query.where(events.c.accepted_at >= which.since)
    if which.before is not None:
        query = query.where(events.c.accepted_at < which.before)
    return _views(EventSummary, connection.execute(_of_tenant(query, events, which.tenant_id).limit(limit)))


def find_event(connection: Connection, event_id: str, *, tenant_id: str | None = None) -> EventDetail | None:
    """The event of an id; ``None`` where there is none, or where it is another tenant's."""
    query = select(*_columns(WEBHOOK_EVENTS, EventDetail)).where(WEBHOOK_EVENTS.c.event_id == event_id)
    found = _views(EventDetail, connection.execute(_of_tenant(query, WEBHOOK_EVENTS, tenant_id)))
    return found[0] if found else None


def attempts_of(connection: Connection, event: EventSummary, *, tenant_id: str | None = None) -> list[AttemptView]:
    """All tries of an event in their order."""
    attempts = WEBHOOK_ATTEMPTS
    query = (
        select(*_columns(attempts, AttemptView))
        .where(attempts.c.accepted_at == event.accepted_at, attempts.c.event_id == event.event_id)
        .order_by(attempts.c.run, attempts.c.step, attempts.c.attempt)
    )
    return _views(AttemptView, connection.execute(_of_tenant(query, attempts, tenant_id)))


def counts_by_tier(
    connection: Connection, *, tenant_id: str | None = None, since: datetime | None = None
) -> list[TierCount]:
    """Events by tier and status, those accepted since a time where one is given."""
    events = WEBHOOK_EVENTS
    query = (
        select(events.c.tier, events.c.status, func.count().label("events"))
        .group_by(events.c.tier, events.c.status)
        .order_by(events.c.tier, events.c.status)
    )
    if since is not None:
        query = query.where(events.c.accepted_at >= since)
    return _views(TierCount, connection.execute(_of_tenant(query, events, tenant_id)))
