"""Strict lanes: which event of a key is the next one (R12).

A lane's events stand in the order of their acceptance, those of a later run before all others: they were before them
already. The first one that has not given up the lane has it, and nobody else is let go: so at most one event of the
lane is in the tiers. What is said here is a function of the lane's rows alone, so it makes no difference which was
projected first.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, select, text, update

from projections.conflicts import listed, take_turns
from projections.schedule import ScheduleRow
from projections.tables import WEBHOOK_SCHEDULE

_NAMESPACE = 0x7765626C  # first key of the lanes' advisory locks

_WAITS = WEBHOOK_SCHEDULE
_LET_GO = text("lane IS NOT NULL AND held_by IS NULL AND kind <> 'cancelled'")


def hold_lanes(waits: Iterable[ScheduleRow]) -> None:
    """Set ``held_by`` of all rows with a lane, in memory."""
    first: dict[str, ScheduleRow] = {}
    in_lanes = [wait for wait in waits if wait.lane is not None]
    for wait in in_lanes:
        if wait.closed_at is None and wait.lane is not None:
            known = first.get(wait.lane)
            if known is None or _place(wait) < _place(known):
                first[wait.lane] = wait
    for wait in in_lanes:
        is_first = wait.closed_at is None and first[wait.lane or ""] is wait
        wait.held_by = None if is_first or wait.kind == "cancelled" else wait.lane


def _place(wait: ScheduleRow) -> tuple[int, int, str]:
    return -(wait.run or 0), wait.log_offset or 0, wait.schedule_id


def release_lanes(connection: Connection, lanes: Iterable[str]) -> None:
    """Set ``held_by`` of the rows in some lanes, after everything else has been written.

    Two writers may change a lane at once, one its last event and one its next: each would miss what the other has
    not committed. So they take turns from here to the end of their transactions.
    """
    lanes = list(lanes)
    take_turns(connection, _NAMESPACE, lanes)
    touched = listed(connection, lanes).subquery("touched")
    other = _WAITS.alias("other")
    first = (
        select(other.c.schedule_id)
        .where(other.c.lane == touched.c.id, text("other.lane IS NOT NULL AND other.closed_at IS NULL"))
        .order_by(other.c.run.desc(), other.c.log_offset, other.c.schedule_id)
        .limit(1)
        .scalar_subquery()
    )
    found = connection.execute(select(first.label("first")).select_from(touched)).scalars()
    firsts = listed(connection, [each for each in found if each is not None])
    connection.execute(
        update(_WAITS).where(_WAITS.c.schedule_id.in_(firsts), _WAITS.c.held_by.is_not(None)).values(held_by=None)
    )
    connection.execute(
        update(_WAITS)
        .where(_WAITS.c.lane.in_(listed(connection, lanes)), _LET_GO, _WAITS.c.schedule_id.not_in(firsts))
        .values(held_by=_WAITS.c.lane)
    )
