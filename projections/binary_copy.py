"""Rows as PostgreSQL's binary COPY format: no escaping, no text for the server to parse, instants as integers."""

import struct
from collections.abc import Callable, Iterable, Sequence
from textwrap import indent
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, SmallInteger, String, Table, Text
from sqlalchemy.types import TypeEngine

from projections.tables import UtcDateTime
from schemas.compiled import define

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_2000: Final = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, in microseconds

_BYTES: Final = "add(length(len(value)))\nadd(value)\n"
_TEXT: Final = """data = value.encode()
if zero in data:  # no PostgreSQL text can hold it
    data = data.replace(zero, b"\\xef\\xbf\\xbd")
n = len(data)
add(lengths[n] if n < 128 else length(n))
add(data)
"""


class _Number(NamedTuple):
    """How ``struct`` writes a number, and what PostgreSQL takes off it before."""

    format: str
    size: int
    offset: int = 0

    def arguments(self, value: str) -> str:
        return f"{self.size}, {value}{f' - {self.offset}' if self.offset else ''}"


_NUMBERS: Final[tuple[tuple[type[TypeEngine[Any]], _Number], ...]] = (
    (UtcDateTime, _Number("q", 8, _EPOCH_2000)),
    (SmallInteger, _Number("h", 2)),
    (BigInteger, _Number("q", 8)),
    (Integer, _Number("i", 4)),
    (Float, _Number("d", 8)),
)
_NAMES: Final[dict[str, Any]] = {
    "null": _NULL,
    "zero": b"\x00",
    "lengths": tuple(struct.pack(">i", length) for length in range(128)),
    "length": struct.Struct(">i").pack,
}
_ONE_OF_A_KIND: Final = frozenset({"event_id", "change_id", "schedule_id", "model_id", "caused_by"})
_SELDOM: Final = frozenset({"results", "error", "next_due_at", "closed_at", "call_back_id"})
"""Columns that are null in most rows."""

_CACHED_COMBINATIONS: Final = 16_384


def _number(kind: TypeEngine[Any]) -> _Number | None:
    return next((number for cls, number in _NUMBERS if isinstance(kind, cls)), None)


def _adding(value: str, kind: TypeEngine[Any], names: dict[str, Any]) -> str:
    """Lines that add a value, null or not; what they call goes into ``names``."""
    number = _number(kind)
    if number is None:
        encode = _BYTES if isinstance(kind, LargeBinary) else _TEXT
    else:
        encode = f"add({_packing([number], names)}({number.arguments('value')}))\n"
    return f"value = {value}\nif value is None:\n    add(null)\nelse:\n{indent(encode, '    ')}"


def _packing(numbers: Sequence[_Number], names: dict[str, Any]) -> str:
    """The name of a function that packs these numbers, each behind its size."""
    formats = "".join(f"i{number.format}" for number in numbers)
    names[f"pack_{formats}"] = struct.Struct(f">{formats}").pack
    return f"pack_{formats}"


def _adding_numbers(columns: Sequence[Column[Any]], names: dict[str, Any]) -> str:
    """Lines that add columns of numbers: together, if none of them is null."""
    numbers = [number for each in columns if (number := _number(each.type)) is not None]
    arguments = ", ".join(number.arguments(f"n{place}") for place, number in enumerate(numbers))
    together = f"add({_packing(numbers, names)}({arguments}))\n"
    read = "".join(f"n{place} = row.{each.name}\n" for place, each in enumerate(columns))
    nullable = [f"n{place} is None" for place, each in enumerate(columns) if each.nullable]
    if not nullable:
        return read + together
    singly = "".join(_adding(f"n{place}", each.type, names) for place, each in enumerate(columns))
    return f"{read}if {' or '.join(nullable)}:\n{indent(singly, '    ')}else:\n    {together}"


def _adding_seldom(columns: Sequence[Column[Any]], names: dict[str, Any]) -> str:
    """Lines that add columns that most often are all null."""
    absent = " and ".join(f"row.{each.name} is None" for each in columns)
    singly = "".join(_adding(f"row.{each.name}", each.type, names) for each in columns)
    return f"if {absent}:\n    add({_NULL * len(columns)!r})\nelse:\n{indent(singly, '    ')}"


def _repeats(column: Column[Any]) -> bool:
    """Whether few values fill the column: names and small numbers, but not identifiers, free text and instants."""
    if column.name in _ONE_OF_A_KIND or isinstance(column.type, (Text, BigInteger)):
        return False
    return isinstance(column.type, (String, Integer))


class _Combinations(dict[tuple[Any, ...], bytes]):
    """The beginnings of rows by their values, encoded when they are asked for."""

    def __init__(self, begin: bytes, encode: Callable[..., None]) -> None:
        self._begin = begin
        self._encode = encode

    def __missing__(self, values: tuple[Any, ...]) -> bytes:
        parts = [self._begin]
        self._encode(values, parts.append)
        if len(self) >= _CACHED_COMBINATIONS:
            self.clear()
        self[values] = encoded = b"".join(parts)
        return encoded


class BinaryCopy:
    """Encodes rows of one table, given as objects with an attribute for each column.

    ``columns`` come in an order of its own. First those whose values repeat from row to row: together they are encoded
    once for each combination. Then numbers, which one call packs, texts, and what is seldom there. The code is made for
    the table: a row costs a third of what it does in a loop.
    """

    def __init__(self, table: Table, columns: Iterable[str]) -> None:
        given = [table.c[name] for name in columns]
        repeating = [each for each in given if _repeats(each) and each.name not in _SELDOM]
        seldom = [each for each in given if each.name in _SELDOM]
        others = [each for each in given if each not in repeating and each not in seldom]
        # What no row lacks is packed apart from what some lack.
        required = [each for each in others if _number(each.type) and not each.nullable]
        optional = [each for each in others if _number(each.type) and each.nullable]
        texts = [each for each in others if not _number(each.type)]
        self.columns = tuple(each.name for each in (*repeating, *required, *optional, *texts, *seldom))
        names = dict(_NAMES)
        lines = [_adding(f"values[{number}]", each.type, names) for number, each in enumerate(repeating)]
        add_repeating = define("values, add", lines, names)
        repeated = _Combinations(struct.pack(">h", len(given)), add_repeating)
        values = "".join(f"row.{each.name}, " for each in repeating)
        lines = [f"add(repeated[({values})])\n"]
        lines += [_adding_numbers(each, names) for each in (required, optional) if each]
        lines += [_adding(f"row.{each.name}", each.type, names) for each in texts]
        lines += [_adding_seldom(seldom, names)] if seldom else []
        loop = ["for row in rows:\n", *(indent(each, "    ") for each in lines)]
        self._add_rows: Callable[..., None] = define("rows, add", loop, {**names, "repeated": repeated})

    def encode(self, rows: Iterable[object]) -> bytes:
        """The whole input of ``COPY ... FROM STDIN (FORMAT binary)``."""
        parts = [_SIGNATURE]
        self._add_rows(rows, parts.append)
        parts.append(_END)
        return b"".join(parts)
