"""What stands in the tables, as the rows that the fold makes, so that both can be compared whole."""

from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select

from projections.attempts import AttemptRow
from projections.call_backs import CallBackRow
from projections.changes import ChangeRow
from projections.fold import Rows
from projections.history import EventRow
from projections.schedule import ScheduleRow
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CALL_BACKS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.events import from_datetime

RowT = TypeVar("RowT", EventRow, AttemptRow, ChangeRow, ScheduleRow, CallBackRow)


def _rows(connection: Connection, table: Table, cls: type[RowT]) -> dict[Any, RowT]:
    assert [each.name for each in table.c] == [each.name for each in fields(cls)], f"columns of {table.name}"
    rows = [cls(*(_plain(value) for value in found)) for found in connection.execute(select(table))]
    return {row.key: row for row in rows}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return from_datetime(value)
    return bytes(value) if isinstance(value, memoryview) else value


def stored_rows(connection: Connection) -> Rows:
    """All projected tables."""
    return Rows(
        _rows(connection, WEBHOOK_EVENTS, EventRow),
        _rows(connection, WEBHOOK_ATTEMPTS, AttemptRow),
        _rows(connection, WEBHOOK_CHANGES, ChangeRow),
        _rows(connection, WEBHOOK_SCHEDULE, ScheduleRow),
        _rows(connection, WEBHOOK_CALL_BACKS, CallBackRow),
    )
