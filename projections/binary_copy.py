"""Rows as PostgreSQL's binary COPY format: no escaping, no text for the server to parse, instants as integers."""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger, String, Table, Text
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


def _int4(value: int | None) -> bytes:
    return _NULL if value is None else _INT4.pack(4, value)


def _int2(value: int | None) -> bytes:
    return _NULL if value is None else _INT2.pack(2, value)


def _int8(value: int | None) -> bytes:
    return _NULL if value is None else _INT8.pack(8, value)


def _float8(value: float | None) -> bytes:
    return _NULL if value is None else _FLOAT8.pack(8, value)


def _instant(value: int | None) -> bytes:
    return _NULL if value is None else _INT8.pack(8, value - _EPOCH_2000)


_ENCODERS: Final[tuple[tuple[type[TypeEngine[Any]], Encoder], ...]] = (
    (UtcDateTime, _instant),
    (SmallInteger, _int2),
    (BigInteger, _int8),
    (Integer, _int4),
    (Float, _float8),
    (LargeBinary, _bytes),
    (String, _text),
)
_ONE_OF_A_KIND: Final = frozenset({"event_id", "change_id", "schedule_id", "model_id", "caused_by"})
_CACHED_COMBINATIONS: Final = 16_384


def _encoder(kind: TypeEngine[Any]) -> Encoder:
    return next(encoder for cls, encoder in _ENCODERS if isinstance(kind, cls))


def _repeats(name: str, kind: TypeEngine[Any]) -> bool:
    """Whether few values fill the column: names and small numbers, but not identifiers, free text and instants."""
    if name in _ONE_OF_A_KIND or isinstance(kind, (Text, BigInteger)):
        return False
    return isinstance(kind, (String, Integer))


class BinaryCopy:
    """Encodes rows of one table, given as objects with an attribute for each column.

    ``columns`` come in an order of its own: first those whose values repeat from row to row. Together they are encoded
    once for each combination, which halves the cost of a row.
    """

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        given = tuple(columns)
        repeating = [name for name in given if _repeats(name, table.c[name].type)]
        others = [name for name in given if name not in repeating]
        self.columns = (*repeating, *others)
        self._repeating = attrgetter(*repeating)
        self._others = attrgetter(*others)
        self._encoders = tuple(_encoder(table.c[name].type) for name in others)
        encoders = tuple(_encoder(table.c[name].type) for name in repeating)
        begin = struct.pack(">h", len(given))

        @lru_cache(maxsize=_CACHED_COMBINATIONS)
        def encode_repeating(values: tuple[Any, ...]) -> bytes:
            return begin + b"".join([encode(value) for encode, value in zip(encoders, values, strict=True)])

        self._encode_repeating = encode_repeating

    def encode(self, rows: Iterable[object]) -> bytes:
        """The whole input of ``COPY ... FROM STDIN (FORMAT binary)``."""
        parts = [_SIGNATURE]
        append, extend, encoders = parts.append, parts.extend, self._encoders
        repeating, encode_repeating, others = self._repeating, self._encode_repeating, self._others
        for row in rows:
            append(encode_repeating(repeating(row)))
            extend([encode(value) for encode, value in zip(encoders, others(row), strict=True)])
        append(_END)
        return b"".join(parts)
