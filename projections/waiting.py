"""Why each event that has not ended is waiting, as far as the tables know: questions to the view ``v_waiting``.

Workers and `.control` know more: what runs, which key is busy, what is paused. What they could tell apart is
``nth_in_tier`` here.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from sqlalchemy import Column, Connection, Integer, MetaData, Select, String, Table, func, literal, or_, select, tuple_

from projections.queries import MAX_LIMIT
from projections.tables import UtcDateTime

Reason: TypeAlias = Literal[
    "nth_in_tier",
    "running",
    "key_busy",
    "tenant_share",
    "rate",
    "circuit",
    "due_at",
    "retry_at",
    "strict_lane",
    "call_back",
    "paused",
    "no_worker_for_version",
]
"""The closed list: every event that has not ended has exactly one of them."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

IN_TIER: Final[Reason] = "nth_in_tier"
"""What the tables say of every event whose record is in a tier's topics."""

V_WAITING: Final = Table(
    "v_waiting",
    MetaData(),
    *(Column(name, String) for name in ("event_id", "tenant_id", "tier", "endpoint", "event_type")),
    *(Column(name, String) for name in ("model", "model_id", "reason", "holder")),
    *(Column(name, Integer) for name in ("run", "step", "attempt")),
    *(Column(name, UtcDateTime) for name in ("accepted_at", "since", "until")),
)
"""The view, made by a migration; apart from the tables, of which it is none."""

_ORDER: Final = (V_WAITING.c.accepted_at, V_WAITING.c.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvent:
    """An event that has not ended and its one reason.

    ``holder`` is, by reason: ``running`` the worker; ``key_busy`` and ``strict_lane`` the event before it;
    ``tenant_share``, ``rate``, ``circuit``, ``call_back``, ``no_worker_for_version`` the gate; else the tier. ``since``
    is when the reason began, ``until`` when it ends at the latest; ``None`` where nobody can know.
    """

    event_id: str
    tenant_id: str
    accepted_at: datetime
    tier: str | None
    endpoint: str | None
    event_type: str | None
    model: str | None
    model_id: str | None
    run: int
    step: int
    attempt: int
    reason: Reason
    holder: str | None
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events are asked for; ``None``: whatever there is.

    ``reasons`` are those of the view; an event of ``or_ids`` belongs to them whatever its reason. ``after`` is the last
    page's last ``accepted_at`` and ``event_id``.
    """

    tenant_id: str | None = None
    tiers: Collection[str] | None = None
    reasons: Collection[Reason] | None = None
    or_ids: Collection[str] = ()
    after: tuple[datetime, str] | None = None


EVERYTHING: Final = Selection()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCount:
    """How many events of a tier wait for a reason, and since when the first of them."""

    tier: str | None
    reason: Reason
    events: int
    oldest_accepted_at: datetime


def waiting_events(connection: Connection, which: Selection = EVERYTHING, limit: int = 20) -> list[WaitingEvent]:
    """Events that have not ended, in order of acceptance. Raises ``ValueError`` for a limit outside 1..1000."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"the limit is {limit}; it must be from 1 to {MAX_LIMIT}")
    return _read(connection, _chosen(which).order_by(*_ORDER).limit(limit))


def waiting_event(connection: Connection, event_id: str, *, tenant_id: str | None = None) -> WaitingEvent | None:
    """Why one event waits; ``None`` where it has ended, is not there, or is another tenant's."""
    found = _read(connection, _chosen(Selection(tenant_id=tenant_id)).where(V_WAITING.c.event_id == event_id))
    return found[0] if found else None


def count_waiting(connection: Connection, *, tenant_id: str | None = None) -> list[WaitingCount]:
    """Events that have not ended, by tier and reason."""
    columns = (V_WAITING.c.tier, V_WAITING.c.reason)
    counts = func.count().label("events"), func.min(V_WAITING.c.accepted_at).label("oldest_accepted_at")
    query = select(*columns, *counts).group_by(*columns).order_by(*columns)
    if tenant_id is not None:
        query = query.where(V_WAITING.c.tenant_id == tenant_id)
    return [WaitingCount(**row) for row in connection.execute(query).mappings()]


def ahead_in_tier(connection: Connection, event: WaitingEvent, running: Collection[str] = ()) -> int:
    """Events of its tier that were accepted before it and are in the tier as well, without those known to run.

    A tier's partitions go on side by side, each first in, first out: so its start may come before one of these, or
    after one that is not counted.
    """
    query = (
        select(func.count())
        .select_from(V_WAITING)
        .where(V_WAITING.c.tier == event.tier, V_WAITING.c.reason == IN_TIER)
        .where(tuple_(*_ORDER) < _place(event.accepted_at, event.event_id))
        .where(V_WAITING.c.event_id.not_in(running))
    )
    count: int = connection.execute(query).scalar_one()
    return count


def _chosen(which: Selection) -> Select[Any]:
    view = V_WAITING.c
    query = select(*(view[each.name] for each in fields(WaitingEvent)))
    if which.tenant_id is not None:
        query = query.where(view.tenant_id == which.tenant_id)
    if which.tiers is not None:
        query = query.where(view.tier.in_(which.tiers))
    if which.reasons is not None:
        query = query.where(or_(view.reason.in_(which.reasons), view.event_id.in_(which.or_ids)))
    if which.after is not None:
        query = query.where(tuple_(*_ORDER) > _place(*which.after))
    return query


def _place(accepted_at: datetime, event_id: str) -> Any:
    return tuple_(literal(accepted_at, UtcDateTime()), literal(event_id))


def _read(connection: Connection, query: Select[Any]) -> list[WaitingEvent]:
    return [WaitingEvent(**row) for row in connection.execute(query).mappings()]
