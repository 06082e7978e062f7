"""Which versions of plugins open events run on, and what waits behind versions' gates. Of all tenants."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, RowMapping, func, select, text

from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from topics.gates import VERSION

_WAITS: Final = WEBHOOK_SCHEDULE.c
# Literal, as the partial index has it.
_HELD: Final = text("dispatched_at IS NULL AND closed_at IS NULL AND held_by IS NOT NULL AND lane IS NULL")
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """Events that have not ended and run on the same plugin, version and pipeline; ``None``: none is recorded."""

    runs_on: str | None
    events: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class ParkedRuns:
    """Tasks that wait behind a version's gate, and since when the first of them does."""

    gate: str
    tasks: int
    since: datetime


def open_runs(connection: Connection) -> list[OpenRuns]:
    """Counts by what the events run on, the oldest first."""
    events = WEBHOOK_EVENTS.c
    oldest = func.min(events.accepted_at)
    query = (
        select(events.runs_on, func.count(), oldest)
        .where(events.finished_at.is_(None))
        .group_by(events.runs_on)
        .order_by(oldest)
    )
    return [OpenRuns(*row) for row in connection.execute(query)]


def parked_runs(connection: Connection) -> list[ParkedRuns]:
    """Counts by gate."""
    query = (
        select(_WAITS.held_by, func.count(), func.min(_WAITS.created_at))
        .where(_HELD, _WAITS.held_by.startswith(VERSION, autoescape=True))
        .group_by(_WAITS.held_by)
        .order_by(_WAITS.held_by)
    )
    return [ParkedRuns(*row) for row in connection.execute(query)]


def held_before(connection: Connection, gate: str, moment: datetime) -> int:
    """How many wait behind a gate since before ``moment``."""
    query = select(func.count()).where(_HELD, _WAITS.held_by == gate, _WAITS.created_at < moment)
    count: int = connection.execute(query).scalar_one()
    return count


def rows_behind(connection: Connection, gate: str) -> Iterator[RowMapping]:
    """The whole rows of what waits behind a gate, first in, first out."""
    query = select(WEBHOOK_SCHEDULE).where(_HELD, _WAITS.held_by == gate).order_by(_WAITS.created_at, _WAITS.log_offset)
    yield from connection.execution_options(yield_per=_AT_ONCE).execute(query).mappings()
