"""Puts folded rows into a table, merging them with the rows that are there, in one statement for each table.

PostgreSQL: COPY into a temporary table, then one upsert from it. SQLite: the upsert, row by row.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Insert, Table, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects import postgresql, sqlite

from projections.binary_copy import BinaryCopy
from projections.conflicts import Columns, Resolution
from projections.tables import UtcDateTime
from schemas.events import to_datetime


@dataclass(frozen=True)
class Target:
    """A table, how its rows are merged, and the columns that are worked out elsewhere.

    A row is an object with an attribute for each column, its instants in microseconds.
    """

    table: Table
    resolve: Callable[[Columns, Columns], Resolution]
    derived: frozenset[str] = frozenset()

    def write(self, connection: Connection, rows: Mapping[Any, object]) -> None:
        """Merge rows, given by key, into the table; in the order of keys, lest writers deadlock (R19)."""
        if not rows:
            return
        ordered = [rows[key] for key in sorted(rows)]
        if connection.dialect.name == "postgresql":
            self._copy(connection, ordered)
        else:
            connection.execute(self._sqlite_upsert, [self._parameters(row) for row in ordered])

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows fill in."""
        return tuple(each.name for each in self.table.c if each.name not in self.derived)

    @cached_property
    def _stage(self) -> str:
        return f"stage_{self.table.name}"

    @cached_property
    def _encoder(self) -> BinaryCopy:
        return BinaryCopy(self.table, self.columns)

    @cached_property
    def _copy_statement(self) -> str:
        names = ", ".join(f'"{name}"' for name in self._encoder.columns)
        return f"COPY {self._stage} ({names}) FROM STDIN (FORMAT binary)"

    def _copy(self, connection: Connection, rows: Sequence[object]) -> None:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._stage} (LIKE {self.table.name}) ON COMMIT DELETE ROWS"
            )
            cursor.copy_expert(self._copy_statement, io.BytesIO(self._encoder.encode(rows)))
        connection.execute(self._postgresql_upsert)

    @cached_property
    def _postgresql_upsert(self) -> Insert:
        stage = sql_table(self._stage, *(sql_column(name, self.table.c[name].type) for name in self.columns))
        key = [stage.c[each.name] for each in self.table.primary_key]
        insert = postgresql.insert(self.table).from_select(
            self.columns, select(*stage.c).order_by(*key), include_defaults=False
        )
        return self._on_conflict(insert)

    @cached_property
    def _sqlite_upsert(self) -> Insert:
        return self._on_conflict(sqlite.insert(self.table))

    def _on_conflict(self, insert: postgresql.Insert | sqlite.Insert) -> Insert:
        key = [each.name for each in self.table.primary_key]
        new = {name: insert.excluded[name] for name in self.columns}
        resolution = self.resolve(dict(self.table.c), new)
        values = {name: value for name, value in resolution.values.items() if name not in key}
        return insert.on_conflict_do_update(index_elements=key, set_=values, where=resolution.where)

    @cached_property
    def _values(self) -> Callable[[object], tuple[Any, ...]]:
        return attrgetter(*self.columns)

    @cached_property
    def _instants(self) -> frozenset[str]:
        return frozenset(name for name in self.columns if isinstance(self.table.c[name].type, UtcDateTime))

    def _parameters(self, row: object) -> dict[str, Any]:
        values = dict(zip(self.columns, self._values(row), strict=True))
        for name in self._instants:
            if values[name] is not None:
                values[name] = to_datetime(values[name])
        return values
