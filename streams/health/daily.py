"""The metrics in the original product's shape: by date, the newest first, and by tier; what has none counts 0."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, Final

from projections.daily import DailyCount
from topics.tiers import TIERS

MOST_DAYS: Final = 366


def by_date(counts: Iterable[DailyCount], last: date, days: int) -> dict[str, dict[str, dict[str, Any]]]:
    """``{date: {tier: {dispatched, completed, failed, event_types: {type: count}}}}`` of ``days`` up to ``last``.

    Types come by count, the most frequent first.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {
        (last - timedelta(before)).isoformat(): {
            tier: {"dispatched": 0, "completed": 0, "failed": 0, "event_types": {}} for tier in TIERS
        }
        for before in range(days)
    }
    for each in sorted(counts, key=lambda count: (-count.accepted, count.event_type)):
        entry = found.get(each.day.isoformat(), {}).get(each.tier)
        if entry is not None:
            entry["dispatched"] += each.accepted
            entry["completed"] += each.completed
            entry["failed"] += each.failed
            entry["event_types"][each.event_type] = each.accepted
    return found


def first_day(last: date, days: int) -> date:
    """The first of ``days`` days up to ``last``. Raises ``ValueError`` for a number of days that is none."""
    if not 1 <= days <= MOST_DAYS:
        raise ValueError(f"days is {days}; it must be from 1 to {MOST_DAYS}")
    return last - timedelta(days - 1)
