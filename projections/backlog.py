"""How many waits of each tier are due, and how many are not yet: what its load adds to its group's lag."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from projections.tables import WEBHOOK_SCHEDULE


@dataclass(frozen=True, slots=True)
class DueCount:
    """Waits of one tier that no gate and no lane holds: ``due`` by now, the first of them at ``first_due_at``."""

    due: int
    delayed: int
    first_due_at: datetime | None


def count_due(connection: Connection, now: datetime) -> dict[str, DueCount]:
    """By tier; one without waits is left out."""
    table = WEBHOOK_SCHEDULE.c
    is_due = table.due_at <= now
    due, count, first = func.sum(case((is_due, 1), else_=0)), func.count(), func.min(table.due_at)
    query = (
        select(table.tier, due.label("due"), count.label("waits"), first.label("first_due_at"))
        .where(table.dispatched_at.is_(None), table.closed_at.is_(None), table.held_by.is_(None))
        .where(table.tier.is_not(None), table.due_at.is_not(None))
        .group_by(table.tier)
    )
    return {
        row.tier: DueCount(int(row.due), int(row.waits - row.due), row.first_due_at if row.due else None)
        for row in connection.execute(query)
    }
