"""Rows written to PostgreSQL by COPY: of all ways that were measured it costs the writer least."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def can_copy(connection: Connection) -> bool:
    """Whether rows can be copied: by psycopg2, into the tables of the connection's own search path."""
    return connection.dialect.driver == "psycopg2" and "schema_translate_map" not in connection.get_execution_options()


def copy_rows(connection: Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows, in this order, in the connection's transaction. Each has the same columns, by name.

    Values are texts, bytes, whole numbers, times, and ``None``. Raises SQLAlchemy's ``DBAPIError``.
    """
    statement = f"COPY {table} ({', '.join(rows[0])}) FROM STDIN"
    lines = ["\t".join([_text(value) for value in row.values()]) for row in rows]
    lines.append("")
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection
    cursor = driver.cursor()
    try:
        cursor.copy_expert(statement, io.StringIO("\n".join(lines)))
    except connection.dialect.loaded_dbapi.Error as error:
        # SQLAlchemy has no COPY: what it does with the errors of its own statements is done here.
        raise _translated(connection, statement, error) from error
    finally:
        cursor.close()


def _text(value: object) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPED)
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


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
