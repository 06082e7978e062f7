"""Which ended events a replay takes: conditions on the history, read in order of acceptance, page by page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select, tuple_

from projections.tables import WEBHOOK_EVENTS
from schemas.kinds import FINAL_KINDS

_EVENTS = WEBHOOK_EVENTS.c
_KEY = (_EVENTS.accepted_at, _EVENTS.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Ended events; ``None``: whatever there is. ``tier`` is the one they ended in, ``error`` a code or a text in it.

    ``since`` and ``until`` bound the acceptance, the latter excluded.
    """

    tenant_id: str | None = None
    tier: str | None = None
    endpoint: str | None = None
    status: str | None = None
    error: str | None = None
    model: str | None = None
    model_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_ids: tuple[str, ...] = ()

    def encode(self) -> str:
        """As JSON, without what is not asked for."""
        return orjson.dumps({name: value for name, value in asdict(self).items() if value}).decode()

    @classmethod
    def decode(cls, text: str) -> "Selection":
        """The selection of its JSON."""
        values: dict[str, Any] = orjson.loads(text)
        for name in ("since", "until"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        values["event_ids"] = tuple(values.get("event_ids", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How many events of a tier, a handler and a status are selected."""

    tier: str | None
    handler: str | None
    status: str
    events: int


def count(connection: Connection, selection: Selection, selected_at: datetime) -> list[Group]:
    """The events selected, by tier, handler and status."""
    columns = _EVENTS.tier, _EVENTS.handler, _EVENTS.status
    query = select(*columns, func.count().label("events")).where(*_conditions(selection, selected_at))
    return [Group(**row) for row in connection.execute(query.group_by(*columns).order_by(*columns)).mappings()]


def page(
    connection: Connection, selection: Selection, selected_at: datetime, after: tuple[datetime, str] | None, limit: int
) -> Sequence[RowMapping]:
    """The rows of the next events, in order of acceptance, behind the place of the last one."""
    query = select(WEBHOOK_EVENTS).where(*_conditions(selection, selected_at)).order_by(*_KEY).limit(limit)
    if after is not None:
        # Bound with their types: an instant has a form of its own on each database.
        query = query.where(tuple_(*_KEY) > tuple_(*after, types=[each.type for each in _KEY]))
    return connection.execute(query).mappings().all()


def history_begins(connection: Connection) -> datetime | None:
    """Acceptance of the oldest event that there is."""
    begins: datetime | None = connection.execute(select(func.min(_EVENTS.accepted_at))).scalar_one()
    return begins


def _conditions(selection: Selection, selected_at: datetime) -> list[ColumnElement[bool]]:
    # Ended by then: what this replay itself sets going, or anybody else meanwhile, is never taken (R10).
    found = [_EVENTS.kind.in_(FINAL_KINDS), _EVENTS.finished_at <= selected_at]
    for name in ("tenant_id", "tier", "endpoint", "status", "model", "model_id"):
        value = getattr(selection, name)
        if value is not None:
            found.append(_EVENTS[name] == value)
    if selection.error is not None:
        text = _EVENTS.error.icontains(selection.error, autoescape=True)
        found.append(or_(_EVENTS.error_code == selection.error, text))
    if selection.since is not None:
        found.append(_EVENTS.accepted_at >= selection.since)
    if selection.until is not None:
        found.append(_EVENTS.accepted_at < selection.until)
    if selection.event_ids:
        found.append(_EVENTS.event_id.in_(selection.event_ids))
    return found
