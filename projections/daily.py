"""Events by day, tier and type: what was accepted on it, and how that has ended since. Days are of UTC."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import Connection, case, func, select

from projections.tables import WEBHOOK_EVENTS
from schemas.kinds import FINAL_KINDS


@dataclass(frozen=True, slots=True)
class DailyCount:
    """Events of one type that one tier took on one day; ``completed`` and ``failed`` of them have ended so by now."""

    day: date
    tier: str
    event_type: str
    accepted: int
    completed: int
    failed: int


def count_daily(connection: Connection, first: date, last: date) -> list[DailyCount]:
    """Counts of the days from ``first`` to ``last``, both included; what has none is left out."""
    table = WEBHOOK_EVENTS.c
    if connection.dialect.name == "postgresql":
        day = func.date(func.timezone("UTC", table.accepted_at))
    else:
        day = func.date(table.accepted_at)
    completed = func.sum(case((table.kind == "completed", 1), else_=0))
    failed = func.sum(case(((table.kind != "completed") & table.kind.in_(FINAL_KINDS), 1), else_=0))
    query = (
        select(
            day.label("day"),
            table.tier,
            func.coalesce(table.event_type, "").label("event_type"),
            func.count().label("accepted"),
            completed.label("completed"),
            failed.label("failed"),
        )
        .where(table.accepted_at >= datetime.combine(first, time(), UTC))
        .where(table.accepted_at <= datetime.combine(last, time.max, UTC))
        .where(table.tier.is_not(None))
        .group_by(day, table.tier, table.event_type)
    )
    return [
        DailyCount(
            row.day if isinstance(row.day, date) else date.fromisoformat(row.day),
            row.tier,
            row.event_type,
            int(row.accepted),
            int(row.completed),
            int(row.failed),
        )
        for row in connection.execute(query)
    ]
