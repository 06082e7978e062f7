"""Rows of an outbox that were set aside because nobody could publish them: listed, put back, dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from streams.capture.outbox import OUTBOX

_PARKED: Final = OUTBOX.c.parked_at.is_not(None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parked rows are meant: those that fit all that is given."""

    record_ids: Sequence[str] = ()
    tenant_id: str | None = None
    topic: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on the outbox."""
        found: list[ColumnElement[bool]] = [_PARKED]
        if self.record_ids:
            found.append(OUTBOX.c.record_id.in_(list(self.record_ids)))
        if self.tenant_id is not None:
            found.append(OUTBOX.c.tenant_id == self.tenant_id)
        if self.topic is not None:
            found.append(OUTBOX.c.topic == self.topic)
        return found


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """``payload_bytes`` is the size of the framed event; ``record_key`` is its key as text."""

    record_id: str
    tenant_id: str
    topic: str
    record_type: str
    record_key: str
    payload_bytes: int
    created_at: datetime
    parked_at: datetime
    reason: str


def parked_rows(connection: Connection, selection: Selection, limit: int | None = None) -> list[ParkedRow]:
    """The latest set aside first, ``limit`` at most."""
    query = (
        select(OUTBOX, func.length(OUTBOX.c.payload).label("payload_bytes"))
        .where(*selection.conditions())
        .order_by(OUTBOX.c.parked_at.desc(), OUTBOX.c.id.desc())
        .limit(limit)
    )
    return [
        ParkedRow(
            record_id=row.record_id,
            tenant_id=row.tenant_id,
            topic=row.topic,
            record_type=row.record_type,
            record_key=bytes(row.record_key).decode(errors="backslashreplace"),
            payload_bytes=row.payload_bytes,
            created_at=row.created_at,
            parked_at=row.parked_at,
            reason=row.parked_reason or "",
        )
        for row in connection.execute(query)
    ]


def put_back(connection: Connection, selection: Selection) -> int:
    """Let the relay try these rows again, each at its old place among what waits; how many there are."""
    change = update(OUTBOX).where(*selection.conditions()).values(parked_at=None, parked_reason=None)
    return connection.execute(change).rowcount


def drop(connection: Connection, selection: Selection) -> int:
    """Delete these rows: what they tell never reaches Kafka. How many there were."""
    return connection.execute(delete(OUTBOX).where(*selection.conditions())).rowcount
