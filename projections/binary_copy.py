"""Rows as PostgreSQL's binary COPY format: no escaping, no text for the server to parse, instants as integers."""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from textwrap import indent
from typing import Any, Final

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger, String, Table, Text
from sqlalchemy.types import TypeEngine

from projections.tables import UtcDateTime
from schemas.compiled import define

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_2000: Final = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, in microseconds

# Lines that add a value that is not null to what has been encoded.
_BYTES: Final = "add(length(len(value)))\nadd(value)\n"
_TEXT: Final = """data = value.encode()
if zero in data:  # no PostgreSQL text can hold it
    data = data.replace(zero, b"\\xef\\xbf\\xbd")
n = len(data)
add(lengths[n] if n < 128 else length(n))
add(data)
"""
_ENCODERS: Final[tuple[tuple[type[TypeEngine[Any]], str], ...]] = (
    (UtcDateTime, f"add(int8(8, value - {_EPOCH_2000}))\n"),
    (SmallInteger, "add(int2(2, value))\n"),
    (BigInteger, "add(int8(8, value))\n"),
    (Integer, "add(int4(4, value))\n"),
    (Float, "add(float8(8, value))\n"),
    (LargeBinary, _BYTES),
    (String, _TEXT),
)
_NAMES: Final[dict[str, Any]] = {
    "null": _NULL,
    "zero": b"\x00",
    "lengths": tuple(struct.pack(">i", length) for length in range(128)),
    "length": struct.Struct(">i").pack,
    "int2": struct.Struct(">ih").pack,
    "int4": struct.Struct(">ii").pack,
    "int8": struct.Struct(">iq").pack,
    "float8": struct.Struct(">id").pack,
}
_ONE_OF_A_KIND: Final = frozenset({"event_id", "change_id", "schedule_id", "model_id", "caused_by"})
_CACHED_COMBINATIONS: Final = 16_384


def _adding(value: str, kind: TypeEngine[Any]) -> str:
    """Lines that add a value."""
    encode = next(encode for cls, encode in _ENCODERS if isinstance(kind, cls))
    return f"value = {value}\nif value is None:\n    add(null)\nelse:\n{indent(encode, '    ')}"


def _repeats(name: str, kind: TypeEngine[Any]) -> bool:
    """Whether few values fill the column: names and small numbers, but not identifiers, free text and instants."""
    if name in _ONE_OF_A_KIND or isinstance(kind, (Text, BigInteger)):
        return False
    return isinstance(kind, (String, Integer))


class BinaryCopy:
    """Encodes rows of one table, given as objects with an attribute for each column.

    ``columns`` come in an order of its own: first those whose values repeat from row to row. Together they are encoded
    once for each combination. The code for the others is made for the table: a row costs half as much as in a loop.
    """

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        given = tuple(columns)
        repeating = [name for name in given if _repeats(name, table.c[name].type)]
        others = [name for name in given if name not in repeating]
        self.columns = (*repeating, *others)
        lines = [_adding(f"values[{number}]", table.c[name].type) for number, name in enumerate(repeating)]
        add_repeating = define("values, add", lines, _NAMES)
        begin = struct.pack(">h", len(given))

        @lru_cache(maxsize=_CACHED_COMBINATIONS)
        def repeated(values: tuple[Any, ...]) -> bytes:
            parts = [begin]
            add_repeating(values, parts.append)
            return b"".join(parts)

        values = "".join(f"row.{name}, " for name in repeating)
        lines = [f"add(repeated(({values})))\n", *(_adding(f"row.{name}", table.c[name].type) for name in others)]
        loop = ["for row in rows:\n", *(indent(each, "    ") for each in lines)]
        self._add_rows: Callable[..., None] = define("rows, add", loop, {**_NAMES, "repeated": repeated})

    def encode(self, rows: Iterable[object]) -> bytes:
        """The whole input of ``COPY ... FROM STDIN (FORMAT binary)``."""
        parts = [_SIGNATURE]
        self._add_rows(rows, parts.append)
        parts.append(_END)
        return b"".join(parts)
