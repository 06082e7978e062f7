"""Rows written to PostgreSQL by a binary COPY: of all ways that were measured it costs writer and server least."""

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schemas.events import Micros

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_2000: Final = 946_684_800_000_000
"""PostgreSQL's instants count from 2000-01-01, in microseconds."""

fields: Final = struct.Struct(">h").pack
"""How a row begins: the number of its fields."""
_length: Final = struct.Struct(">i").pack
_int4: Final = struct.Struct(">ii").pack
_int8: Final = struct.Struct(">iq").pack


def can_copy(connection: Connection) -> bool:
    """Whether rows can be copied: by psycopg2, as UTF-8, into the tables of the connection's own search path."""
    if connection.dialect.driver != "psycopg2" or "schema_translate_map" in connection.get_execution_options():
        return False
    driver: Any = connection.connection.driver_connection
    return bool(driver.encoding == "UTF8")


def data_field(value: bytes) -> bytes:
    """A field of bytes."""
    return _length(len(value)) + value


def text_field(value: str | None) -> bytes:
    """A field of text."""
    return _NULL if value is None else data_field(value.encode())


def integer_field(value: int) -> bytes:
    """A field of the type integer."""
    return _int4(4, value)


def instant_field(value: Micros) -> bytes:
    """A field of the type timestamptz."""
    return _int8(8, value - _EPOCH_2000)


def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    """Write rows, in this order, in the connection's transaction: each is ``fields`` of their number, and then those.

    Raises SQLAlchemy's ``DBAPIError``.
    """
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    data = io.BytesIO(b"".join((_SIGNATURE, *rows, _END)))
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection
    cursor = driver.cursor()
    try:
        cursor.copy_expert(statement, data)
    except connection.dialect.loaded_dbapi.Error as error:
        # SQLAlchemy has no COPY: what it does with the errors of its own statements is done here.
        raise _translated(connection, statement, error) from error
    finally:
        cursor.close()


def _translated(connection: Connection, statement: str, error: Any) -> BaseException:
    dialect = connection.dialect
    driver: Any = connection.connection
    away = dialect.is_disconnect(error, driver.driver_connection, None)
    if away:
        connection.invalidate(error)
    translated: BaseException = DBAPIError.instance(
        statement, None, error, dialect.loaded_dbapi.Error, connection_invalidated=away, dialect=dialect
    )
    return translated
