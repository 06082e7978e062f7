"""Puts folded rows into a table, merging them with the rows that are there, in one statement for each table.

PostgreSQL: COPY into a temporary table, then one upsert from it. Rows that are likely to be new are copied straight
into the table, at half the work; where one was there after all, all go the long way. SQLite: the upsert, row by row.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Insert, Table, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from projections.binary_copy import BinaryCopy
from projections.conflicts import Columns, Resolution
from projections.tables import UtcDateTime
from schemas.events import to_datetime

_STAGED_AFTER_COLLISION: Final = 100  # batches
_UNIQUE_VIOLATION: Final = "23505"


class Encoded(NamedTuple):
    """Rows as PostgreSQL's COPY takes them; empty where there are none."""

    new: bytes
    others: bytes


def _ordered(rows: Mapping[Any, object]) -> list[Any]:
    """In the order of keys, lest writers deadlock (R19)."""
    return [rows[key] for key in sorted(rows)]


@dataclass
class Target:
    """A table, how its rows are merged, and the columns that are worked out elsewhere.

    A row is an object with an attribute for each column, its instants in microseconds. ``begins`` guesses from a row
    alone that the table has no row of its key yet; a wrong guess costs time only, and the next ``cautious`` batches go
    without guessing.
    """

    table: Table
    resolve: Callable[[Columns, Columns], Resolution]
    derived: frozenset[str] = frozenset()
    begins: Callable[[Any], bool] = lambda _: False
    cautious: int = field(default=0, init=False)

    def write(self, connection: Connection, rows: Mapping[Any, object], encoded: Encoded | None = None) -> None:
        """Merge rows, given by key, into the table; ``encoded`` is what ``encode`` gives for them."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            new, others = encoded or self.encode(rows)
            if self._added(connection, new):
                new = b""
            self._merge(connection, [each for each in (new, others) if each])
        else:
            connection.execute(self._sqlite_upsert, [self._parameters(row) for row in _ordered(rows)])

    def encode(self, rows: Mapping[Any, object]) -> Encoded:
        """The rows for COPY. It needs no database and may be done ahead, in another thread."""
        new: list[object] = []
        others: list[object] = []
        begins = self.begins
        for row in _ordered(rows):
            (new if begins(row) else others).append(row)
        return Encoded(*(self._encoder.encode(each) if each else b"" for each in (new, others)))

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
    def _copy_options(self) -> str:
        names = ", ".join(f'"{name}"' for name in self._encoder.columns)
        return f"({names}) FROM STDIN (FORMAT binary)"

    def _added(self, connection: Connection, data: bytes) -> bool:
        """Whether rows could be put into the table as they are: no key of theirs was there."""
        if not data:
            return True
        if self.cautious:
            self.cautious -= 1
            return False
        try:
            with connection.begin_nested(), _driver_cursor(connection) as cursor:
                cursor.copy_expert(f"COPY {self.table.name} {self._copy_options}", io.BytesIO(data), size=len(data))
        except IntegrityError as error:
            if getattr(error.orig, "pgcode", None) != _UNIQUE_VIOLATION:
                raise
            self.cautious = _STAGED_AFTER_COLLISION
            return False
        return True

    def _merge(self, connection: Connection, parts: list[bytes]) -> None:
        if not parts:
            return
        with _driver_cursor(connection) as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._stage} (LIKE {self.table.name}) ON COMMIT DELETE ROWS"
            )
            for data in parts:
                cursor.copy_expert(f"COPY {self._stage} {self._copy_options}", io.BytesIO(data), size=len(data))
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


@contextmanager
def _driver_cursor(connection: Connection) -> Iterator[Any]:
    """A cursor of the driver, for COPY; what the driver raises comes as SQLAlchemy raises it."""
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    try:
        with closing(connection.connection.cursor()) as cursor:
            yield cursor
    except driver.Error as error:
        raise DBAPIError.instance("COPY", (), error, driver.Error, dialect=dialect) from error
