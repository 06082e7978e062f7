"""Rows as PostgreSQL's binary COPY format: no escaping, no text for the server to parse, instants as integers."""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger, Table
from sqlalchemy.types import TypeEngine

from projections.tables import UtcDateTime

Encoder: TypeAlias = Callable[[Any], bytes]

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_2000: Final = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, in microseconds
_LENGTH: Final = struct.Struct(">i")
_INT2: Final = struct.Struct(">ih")
_INT4: Final = struct.Struct(">ii")
_INT8: Final = struct.Struct(">iq")
_FLOAT8: Final = struct.Struct(">id")


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    if b"\x00" in data:  # no PostgreSQL text can hold it
        data = value.replace("\x00", "\ufffd").encode()
    return _LENGTH.pack(len(data)) + data


def _bytes(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(len(value)) + value


# Names and small numbers repeat in nearly every row.
_name = lru_cache(maxsize=4096)(_text)


@lru_cache(maxsize=4096)
def _int4(value: int | None) -> bytes:
    return _NULL if value is None else _INT4.pack(4, value)


@lru_cache(maxsize=256)
def _int2(value: int | None) -> bytes:
    return _NULL if value is None else _INT2.pack(2, value)


def _int8(value: int | None) -> bytes:
    return _NULL if value is None else _INT8.pack(8, value)


def _float8(value: float | None) -> bytes:
    return _NULL if value is None else _FLOAT8.pack(8, value)


def _instant(value: int | None) -> bytes:
    return _NULL if value is None else _INT8.pack(8, value - _EPOCH_2000)


_UNIQUE_TEXT: Final = frozenset({"event_id", "change_id", "schedule_id", "model_id", "caused_by"})


def _encoder(name: str, kind: TypeEngine[Any]) -> Encoder:
    if isinstance(kind, UtcDateTime):
        return _instant
    for cls, encoder in (
        (SmallInteger, _int2),
        (BigInteger, _int8),
        (Integer, _int4),
        (Float, _float8),
        (LargeBinary, _bytes),
    ):
        if isinstance(kind, cls):
            return encoder
    # Free text has no length limit, which tells it from names.
    return _text if name in _UNIQUE_TEXT or kind.__visit_name__ == "text" else _name


class BinaryCopy:
    """Encodes rows of one table, given as objects with an attribute for each column."""

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        self.columns = tuple(columns)
        self._values = attrgetter(*self.columns)
        self._encoders = tuple(_encoder(name, table.c[name].type) for name in self.columns)
        self._begin = struct.pack(">h", len(self.columns))

    def encode(self, rows: Iterable[object]) -> bytes:
        """The whole input of ``COPY ... FROM STDIN (FORMAT binary)``."""
        parts = [_SIGNATURE]
        append, extend, values, encoders, begin = parts.append, parts.extend, self._values, self._encoders, self._begin
        for row in rows:
            append(begin)
            extend([encode(value) for encode, value in zip(encoders, values(row), strict=True)])
        append(_END)
        return b"".join(parts)
