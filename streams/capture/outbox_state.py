"""What an outbox holds, for those who watch it: what waits and since when, what is set aside, and who publishes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from streams.capture.leadership import slices_held
from streams.capture.outbox import OUTBOX


@dataclass(frozen=True, slots=True)
class OutboxState:
    """Numbers of rows. ``waiting_since`` is when the oldest row that waits was written, ``None`` where none does.

    ``slices_held``: how many of the 16 slices some relay has; ``None`` for SQLite.
    """

    waiting: int
    waiting_since: datetime | None
    parked: int
    parked_since: datetime | None
    slices_held: int | None


def outbox_state(connection: Connection) -> OutboxState:
    """The state now. Counts what waits, so it takes longer the more that is."""
    waits = (OUTBOX.c.published_at.is_(None), OUTBOX.c.parked_at.is_(None))
    waiting = connection.execute(select(func.count(), func.min(OUTBOX.c.created_at)).where(*waits)).one()
    query = select(func.count(), func.min(OUTBOX.c.parked_at)).where(OUTBOX.c.parked_at.is_not(None))
    parked = connection.execute(query).one()
    return OutboxState(waiting[0], waiting[1], parked[0], parked[1], slices_held(connection))
