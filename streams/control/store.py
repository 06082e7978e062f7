"""Control states beside the embedded broker, which forgets its log on exit (R18)."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Column, Engine, MetaData, String, Table, Text, delete, insert, select, tuple_

from projections.tables import UtcDateTime
from schemas.events import ControlState, from_datetime, to_datetime

METADATA: Final = MetaData()

CONTROL_STATES: Final = Table(
    "control_states",
    METADATA,
    Column("name", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("updated_by", String),
    Column("reason", Text),
)
"""The latest state of each name and subject; ``value`` is JSON."""


class ControlStore:
    """The table ``control_states`` of the system's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def save(self, states: Sequence[ControlState]) -> None:
        """Replace the states of the same names and subjects, in one transaction."""
        table = CONTROL_STATES
        rows = {
            (state.name, state.subject): {
                "name": state.name,
                "subject": state.subject,
                "value": state.value,
                "updated_at": to_datetime(state.updated_at),
                "updated_by": state.updated_by,
                "reason": state.reason,
            }
            for state in states
        }
        if not rows:
            return
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(tuple_(table.c.name, table.c.subject).in_(list(rows))))
            connection.execute(insert(table), list(rows.values()))

    def load(self) -> list[ControlState]:
        """Every state that is kept."""
        with self._engine.connect() as connection:
            found = connection.execute(select(CONTROL_STATES)).mappings().all()
        return [ControlState(**{**row, "updated_at": from_datetime(row["updated_at"])}) for row in found]
