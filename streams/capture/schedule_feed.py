"""The schedule as a relay publishes from it: what is due, what its gate lets go, and the ends of what is cancelled."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, TextClause, and_, case, func, or_, select, text, update

from projections.derived import mend_waits
from projections.tables import WEBHOOK_CALL_BACKS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.errors import Undecodable
from schemas.events import TaskEvent, TaskReady, from_datetime
from streams.agents.waiting import TRACE
from streams.capture.coalescing import SUPERSEDED, ended_in_lanes, last_of_each
from streams.capture.feeds import Unpublishable, chunks
from streams.capture.gates import GateKeeper, GateLimits
from streams.capture.outbox import SLICES
from streams.capture.publishing import Record
from streams.engine.decide import CALL_BACK
from streams.headers import record_headers, task_identity
from topics.catalogue import Catalogue

_GATES_EVERY_S: Final = 0.05

_WAITS: Final = WEBHOOK_SCHEDULE.c
ENDS: Final = {"cancelled": "cancelled", "unpublishable": "failed_permanently", SUPERSEDED: "superseded"}
"""Kinds of rows whose task never goes, with the kind of their event's end."""

_IDENTITY: Final = (
    *("event_id", "run", "step", "attempt", "dispatch_seq", "tenant_id", "accepted_at", "created_at"),
    *("tier", "endpoint", "record_key"),
)
"""What an event's end needs to be told."""

_COLUMNS: Final = [
    _WAITS[name]
    for name in (
        "schedule_id",
        "kind",
        "event_id",
        "run",
        "step",
        "attempt",
        "dispatch_seq",
        "tenant_id",
        "endpoint",
        "tier",
        "target_topic",
        "record_key",
        "task",
        "reason",
        "accepted_at",
        "created_at",
        "gate",
        "due_at",
    )
]
_CALL_BACK: Final = WEBHOOK_CALL_BACKS.c.payload.label("call_back")
# Literal conditions, as the partial indexes have them: who cannot go is never looked at.
_OPEN: Final = text("dispatched_at IS NULL AND closed_at IS NULL")
_FREE: Final = text("held_by IS NULL AND call_back_id IS NULL")
_CALLED_BACK: Final = text("webhook_schedule.call_back_id IS NOT NULL")
_GATED: Final = text("held_by IS NOT NULL AND lane IS NULL")
_RELEASED: Final = text("gate IS NOT NULL AND dispatched_at IS NOT NULL AND closed_at IS NULL")

# Each gate once, by jumps through the index: 100,000 rows behind three gates cost four steps.
_GATES: Final = text(
    """
    WITH RECURSIVE gates(gate) AS (
        SELECT min(held_by) FROM webhook_schedule
        WHERE dispatched_at IS NULL AND closed_at IS NULL AND held_by IS NOT NULL AND lane IS NULL
        UNION ALL
        SELECT (
            SELECT min(held_by) FROM webhook_schedule
            WHERE dispatched_at IS NULL AND closed_at IS NULL AND held_by IS NOT NULL AND lane IS NULL
            AND held_by > gates.gate
        ) FROM gates WHERE gates.gate IS NOT NULL
    )
    SELECT gate FROM gates WHERE gate IS NOT NULL
    """
)


class ScheduleFeed:
    """Rows of the schedule that may go: those called back, those due, in that order; then those behind gates (R15).

    Whether a wait is cancelled or goes is decided here and nowhere else: one relay at a time publishes from a row
    either its task or the end of its event, and what it has published is noted before it looks again (R7, R11). So no
    event is both cancelled and run.
    """

    header: Final = "schedule_id"
    name: Final = "schedule"
    shown_by: Final = "webhook events"
    # Beyond every slice.
    lock_keys: Final = (SLICES,)
    tenures: Final = ("schedule",)

    def __init__(self, catalogue: Catalogue, limits: GateLimits) -> None:
        tiers = catalogue.tier_topics
        self.topics = tuple(topic for tier in tiers for topic in (catalogue.topic(tier), catalogue.steps(tier)))
        self._events = catalogue.events
        self._limits = limits
        self._keeper = GateKeeper(limits)
        self._gates_at = 0.0
        self._ended: set[str] = set()

    def begin(self) -> None:
        """A new tenure: what an earlier holder released is not known, so each rate begins with nothing to give."""
        self._keeper = GateKeeper(self._limits)
        self._ended.clear()

    def check(self, connection: Connection) -> None:
        """See ``Feed``. Its order is that of the due times."""

    def read(self, connection: Connection, limit: int, full: Iterable[str]) -> Sequence[RowMapping]:
        """See ``Feed``."""
        self._ended.clear()
        looks_at_gates = time.monotonic() - self._gates_at >= _GATES_EVERY_S
        # Before what is due: a wait whose call-back comes in between is neither, until the next look.
        rows = _called_back(connection, limit, full) if looks_at_gates else []
        due = _select(connection, _FREE, [_WAITS.due_at, _WAITS.schedule_id], limit - len(rows), full)
        rows += last_of_each(connection, due, _COLUMNS, limit, full)
        if looks_at_gates and len(rows) < limit:
            self._gates_at = time.monotonic()
            rows += ended_in_lanes(connection, _COLUMNS, limit - len(rows))
            rows += self._released(connection, limit - len(rows), full)
        return rows

    def row_id(self, row: RowMapping) -> str:
        """See ``Feed``."""
        identity: str = row["schedule_id"]
        return identity

    def record(self, row: RowMapping) -> Record:
        """See ``Feed``."""
        if row["kind"] in ENDS:
            self._ended.add(row["schedule_id"])
            return self._end(row)
        if row["target_topic"] not in self.topics:
            raise Unpublishable("unknown_topic", f"topic {row['target_topic']!r} is of no tier")
        if row["task"] is None or row["record_key"] is None:
            raise Unpublishable("incomplete", "the row has no task or no key")
        try:
            task = decode_as(TaskReady, row["task"])
        except Undecodable as error:
            raise Unpublishable("undecodable", f"the task cannot be read: {error}") from error
        traceparent = task.options.get(TRACE)
        headers = record_headers(task, traceparent=traceparent.encode() if traceparent else None)
        headers.append((self.header, self.row_id(row).encode()))
        value = row["task"]
        if row.get("call_back") is not None:
            task.options[CALL_BACK] = row["call_back"]
            value = encode(task)
        return Record(self.row_id(row), row["target_topic"], row["record_key"], value, headers)

    def mark(self, connection: Connection, rows: Sequence[str]) -> None:
        """See ``Feed``. A row is marked as what was published of it, whatever has become of it since."""
        # Kept until the next look: where the database is away this is asked again.
        ended = [row for row in rows if row in self._ended]
        sent = [row for row in rows if row not in self._ended]
        for ids, column in ((sent, _WAITS.dispatched_at), (ended, _WAITS.closed_at)):
            for chunk in chunks(ids):
                change = update(WEBHOOK_SCHEDULE).where(_WAITS.schedule_id.in_(chunk), column.is_(None))
                connection.execute(change.values({column: datetime.now(UTC)}))

    def park(self, connection: Connection, row: str, reason: str) -> None:
        """See ``Feed``. Its event ends with the next look, so that everybody sees it and its lane goes on (R7, R12)."""
        nobodys = or_(*(_WAITS[name].is_(None) for name in _IDENTITY))
        connection.execute(
            update(WEBHOOK_SCHEDULE)
            .where(_WAITS.schedule_id == row)
            .values(
                kind="unpublishable",
                reason=f"cannot be published: {reason}",
                closed_at=case((nobodys, datetime.now(UTC)), else_=None),
            )
        )

    def tend(self, connection: Connection) -> None:
        """See ``Feed``."""
        mend_waits(connection)

    def _released(self, connection: Connection, limit: int, full: Iterable[str]) -> list[RowMapping]:
        gates = [row.gate for row in connection.execute(_GATES)]
        if not gates:
            return []
        count = select(_WAITS.gate, func.count().label("published")).where(_RELEASED).group_by(_WAITS.gate)
        published = {row.gate: row.published for row in connection.execute(count)}
        rows: list[RowMapping] = []
        for gate in self._keeper.in_turn(gates):
            room = min(self._keeper.room(gate, published.get(gate, 0)), limit - len(rows))
            if room > 0:
                order = [_WAITS.created_at, _WAITS.log_offset]
                behind = and_(_GATED, _WAITS.held_by == gate)
                tiers = self._keeper.tiers(gate)
                if tiers is not None:
                    behind = and_(behind, _WAITS.tier.in_(tiers))
                found = _select(connection, behind, order, room, full)
                self._keeper.take(gate, len(found))
                rows += found
        return rows

    def _end(self, row: RowMapping) -> Record:
        """The record that ends an event whose task never goes; equal each time it is made, and harmless twice."""
        event = TaskEvent(
            kind=ENDS[row["kind"]],
            event_id=row["event_id"],
            run=row["run"],
            step=row["step"],
            attempt=row["attempt"],
            dispatch_seq=row["dispatch_seq"],
            tenant_id=row["tenant_id"],
            accepted_at=from_datetime(row["accepted_at"]),
            recorded_at=from_datetime(row["created_at"]),
            tier=row["tier"],
            endpoint=row["endpoint"],
            result=row.get("result"),
            error=row["reason"],
            error_code=row["kind"],
        )
        headers = record_headers(event)
        headers += [("kind", event.kind.encode()), ("identity", task_identity(event).encode())]
        return Record(self.row_id(row), self._events, row["record_key"], encode(event), headers)


def _called_back(connection: Connection, limit: int, full: Iterable[str]) -> list[RowMapping]:
    """Waits whose call-back has come, each with its payload; whoever has waited longest goes first."""
    calls = WEBHOOK_CALL_BACKS.c
    query = (
        select(*_COLUMNS, _CALL_BACK)
        .join(WEBHOOK_CALL_BACKS, calls.call_back_id == _WAITS.call_back_id)
        .where(_OPEN, _CALLED_BACK, _WAITS.target_topic.not_in(list(full)))
        .order_by(_WAITS.created_at, _WAITS.schedule_id)
        .limit(limit)
    )
    return list(connection.execute(query).mappings())


def _select(
    connection: Connection,
    condition: ColumnElement[bool] | TextClause,
    order: Sequence[Any],
    limit: int,
    full: Iterable[str],
) -> list[RowMapping]:
    query = (
        select(*_COLUMNS)
        .where(_OPEN, condition, _WAITS.due_at <= datetime.now(UTC), _WAITS.target_topic.not_in(list(full)))
        .order_by(*order)
        .limit(limit)
    )
    return list(connection.execute(query).mappings())
