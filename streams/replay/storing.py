"""Puts records into the outbox that may have been put there before."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from projections.conflicts import listed
from streams.capture.outbox import OUTBOX, OutboxRow, append


def store(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Append the rows whose records are not in the outbox, in the caller's transaction."""
    ids = OUTBOX.c.record_id
    known = set(
        connection.execute(select(ids).where(ids.in_(listed(connection, [row.record_id for row in rows])))).scalars()
    )
    append(connection, [row for row in rows if row.record_id not in known])
