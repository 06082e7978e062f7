"""The changes: which events each model change fired, none included (table ``webhook_changes``)."""

from dataclasses import dataclass

import orjson

from projections.conflicts import Columns, Resolution
from schemas.errors import Undecodable
from schemas.events import Micros, TaskEvent


@dataclass(slots=True)
class ChangeRow:
    """A row of ``webhook_changes``; instants in microseconds, ``events`` a JSON array of event ids."""

    occurred_at: Micros
    change_id: str
    tenant_id: str
    model: str | None
    model_id: str | None
    model_event: str | None
    events: str
    matched_at: Micros

    @property
    def key(self) -> tuple[Micros, str]:
        """The primary key."""
        return self.occurred_at, self.change_id


def change_row(event: TaskEvent) -> ChangeRow | None:
    """The row that a ``matched`` record makes, ``None`` for other kinds. Raises ``Undecodable`` for a broken result."""
    if event.kind != "matched":
        return None
    try:
        found = orjson.loads(event.result or "")
        events = orjson.dumps(found["events"]).decode()
        model, model_event = found.get("model"), found.get("model_event")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"result of matched change {event.event_id} is no object with events: {error!r}") from error
    return ChangeRow(
        event.accepted_at,
        event.event_id,
        event.tenant_id,
        event.model or (None if model is None else str(model)),
        event.model_id,
        None if model_event is None else str(model_event),
        events,
        event.recorded_at,
    )


def merge_changes(one: ChangeRow, other: ChangeRow) -> ChangeRow:
    """The first matching holds: intake reuses what it finds recorded (R9)."""
    return other if other.matched_at < one.matched_at else one


def resolve_changes(old: Columns, new: Columns) -> Resolution:
    """The same merge in SQL."""
    return Resolution(dict(new), where=new["matched_at"] < old["matched_at"])
