"""The call-backs that came in, and which one each wait for one gets (table ``webhook_call_backs``).

A key has one call-back: the first. Every wait with that key gets it, whether it came before the wait or after; further
ones are recorded and lead to nothing. Which is the first is a function of the rows alone, so it makes no difference
which was projected first (R19).
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, func, select, text, update

from projections.conflicts import Columns, Resolution, listed, take_turns
from projections.queries import MAX_LIMIT
from projections.schedule import ScheduleRow
from projections.tables import WEBHOOK_CALL_BACKS, WEBHOOK_SCHEDULE
from schemas.errors import Undecodable
from schemas.events import Micros, TaskEvent
from topics.gates import call_back_gate, call_back_key_fault, is_call_back_gate, parse_gate

_NAMESPACE = 0x63616C6C  # first key of the gates' advisory locks

_CALLS = WEBHOOK_CALL_BACKS
_WAITS = WEBHOOK_SCHEDULE
# As the index has it, of which nobody else's waits are a part.
_FOR_CALL_BACKS = text("substr(gate, 1, 10) = 'call_back|'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBackView:
    """A call-back as lists show it. ``continued`` counts the waits that it let go on: 0 also for a second one."""

    received_at: datetime
    call_back_id: str
    tenant_id: str
    key: str
    requested_by: str | None
    continued: int
    payload: str


@dataclass(slots=True)
class CallBackRow:
    """A row of ``webhook_call_backs``; instants in microseconds, ``payload`` a JSON object."""

    received_at: Micros
    call_back_id: str
    tenant_id: str
    gate: str
    payload: str
    requested_by: str | None
    recorded_at: Micros

    @property
    def key(self) -> tuple[Micros, str]:
        """The primary key."""
        return self.received_at, self.call_back_id


def call_back_row(event: TaskEvent) -> CallBackRow | None:
    """The row that a ``called_back`` record makes, ``None`` for other kinds. Raises ``Undecodable``."""
    if event.kind != "called_back":
        return None
    try:
        gate = parse_gate(event.gate or "")
        payload = orjson.loads(event.payload or "")
    except ValueError as error:
        raise Undecodable(f"call-back {event.event_id} has no gate or no payload: {error}") from error
    fault = call_back_key_fault(gate.name)
    if fault is not None or gate.kind != "call_back" or not isinstance(payload, dict):
        raise Undecodable(f"call-back {event.event_id}: {fault or 'its gate or its payload is of another kind'}")
    return CallBackRow(
        event.accepted_at,
        event.event_id,
        event.tenant_id,
        event.gate or "",
        event.payload or "",
        event.requested_by,
        event.recorded_at,
    )


def merge_call_backs(one: CallBackRow, other: CallBackRow) -> CallBackRow:
    """The earliest record holds: intake may write one again (R9)."""
    return other if other.recorded_at < one.recorded_at else one


def resolve_call_backs(old: Columns, new: Columns) -> Resolution:
    """The same merge in SQL."""
    return Resolution(dict(new), where=new["recorded_at"] < old["recorded_at"])


def give_call_backs(call_backs: Iterable[CallBackRow], waits: Iterable[ScheduleRow]) -> None:
    """Set ``call_back_id`` of all waits, in memory."""
    first: dict[str, CallBackRow] = {}
    for each in call_backs:
        known = first.get(each.gate)
        if known is None or each.key < known.key:
            first[each.gate] = each
    for wait in waits:
        found = first.get(wait.gate) if wait.gate is not None else None
        wait.call_back_id = None if found is None else found.call_back_id


def gates_of(call_backs: Iterable[CallBackRow], waits: Iterable[ScheduleRow]) -> set[str]:
    """The call-backs' gates that these rows are about."""
    gates = {each.gate for each in call_backs}
    gates.update(wait.gate for wait in waits if wait.gate is not None and is_call_back_gate(wait.gate))
    return gates


def hand_out_call_backs(connection: Connection, gates: Set[str]) -> None:
    """Set ``call_back_id`` of the waits behind some gates, after everything else has been written.

    Two writers may bring a wait and its call-back at once: each would miss what the other has not committed. So they
    take turns from here to the end of their transactions.
    """
    if not gates:
        return
    take_turns(connection, _NAMESPACE, gates)
    first = (
        select(_CALLS.c.call_back_id)
        .where(_CALLS.c.gate == _WAITS.c.gate)
        .order_by(_CALLS.c.received_at, _CALLS.c.call_back_id)
        .limit(1)
        .correlate(_WAITS)
        .scalar_subquery()
    )
    touched = _WAITS.c.gate.in_(listed(connection, gates))
    changed = _WAITS.c.call_back_id.is_distinct_from(first)
    connection.execute(update(_WAITS).where(_FOR_CALL_BACKS, touched, changed).values(call_back_id=first))


def recent_call_backs(
    connection: Connection, *, tenant_id: str | None = None, key: str | None = None, limit: int = 20
) -> list[CallBackView]:
    """The latest call-backs, newest first: of a tenant, of all where ``tenant_id`` is ``None``; of a key, if given.

    Raises ``ValueError`` for a limit outside 1..1000, and for a key without a tenant.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"the limit is {limit}; it must be from 1 to {MAX_LIMIT}")
    if key is not None and tenant_id is None:
        raise ValueError("a key is a tenant's own: name the tenant")
    got_it = _WAITS.c.gate == _CALLS.c.gate, _WAITS.c.call_back_id == _CALLS.c.call_back_id
    continued = (
        select(func.count())
        # Who went before was let go by its time.
        .where(_FOR_CALL_BACKS, *got_it, _WAITS.c.dispatched_at >= _CALLS.c.received_at)
        .correlate(_CALLS)
        .scalar_subquery()
    )
    query = select(*_CALLS.c, continued.label("continued")).limit(limit)
    query = query.order_by(_CALLS.c.received_at.desc(), _CALLS.c.call_back_id.desc())
    if tenant_id is not None:
        query = query.where(_CALLS.c.tenant_id == tenant_id)
    if key is not None:
        query = query.where(_CALLS.c.gate == call_back_gate(tenant_id or "", key))
    names = [name for name in CallBackView.__dataclass_fields__ if name != "key"]
    return [
        CallBackView(key=parse_gate(row["gate"]).name, **{name: row[name] for name in names})
        for row in connection.execute(query).mappings()
    ]
