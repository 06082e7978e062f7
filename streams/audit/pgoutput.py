"""Reads what PostgreSQL's plugin ``pgoutput`` (protocol version 1, values as text) tells of its log."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

Values: TypeAlias = Mapping[str, str | None]
"""Values of a row by column, as PostgreSQL writes them. What it does not tell is missing: large values that did not
change, and in the old row of a table without ``REPLICA IDENTITY FULL`` whatever is not its key."""

Operation: TypeAlias = Literal["insert", "update", "delete", "truncate"]

_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_BEGIN: Final = struct.Struct(">xqqI")
_COMMIT: Final = struct.Struct(">xBqqq")
_IGNORED: Final = frozenset(b"OYM")
"""Where a transaction came from, types that are not built in, and messages of programs."""


class Unreadable(ValueError):
    """PostgreSQL sent what protocol version 1 does not have."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A committed transaction begins; transactions come one after the other, in the order of their commits."""

    xid: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row of a table was written. ``new`` is empty for ``delete``, both are for ``truncate``, which tells no rows.

    ``is_old_whole``: ``old`` is the whole row, not its key alone.
    """

    schema: str
    table: str
    operation: Operation
    new: Values
    old: Values
    is_old_whole: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction ends. ``end`` is the place in the log behind it."""

    end: int


Message: TypeAlias = Begin | RowChange | Commit


class _Relation(NamedTuple):
    schema: str
    table: str
    columns: tuple[str, ...]


class _Reader:
    """Takes values off a message from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1

    def take(self, format_: str) -> int:
        value: int
        (value,) = struct.unpack_from(f">{format_}", self.data, self.at)
        self.at += struct.calcsize(f">{format_}")
        return value

    def text(self) -> str:
        end = self.data.index(0, self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def mark(self) -> str:
        return chr(self.take("B"))

    def values(self, columns: tuple[str, ...], *, key_only: bool = False) -> dict[str, str | None]:
        """A row. In one that has only its key, every other column stands as NULL."""
        found: dict[str, str | None] = {}
        for position in range(self.take("H")):
            match self.mark():
                case "n":
                    if not key_only:
                        found[columns[position]] = None
                case "u":
                    pass
                case "t":
                    size = self.take("I")
                    found[columns[position]] = self.data[self.at : self.at + size].decode(errors="replace")
                    self.at += size
                case other:
                    raise Unreadable(f"a value of kind {other!r} in column {columns[position]}")
        return found


def read(messages: Iterable[bytes]) -> Iterator[Message]:
    """What the messages of one call tell. Raises ``Unreadable`` for one that is none of protocol version 1."""
    relations: dict[int, _Relation] = {}
    for data in messages:
        match chr(data[0]):
            case "B":
                _, micros, xid = _BEGIN.unpack_from(data)
                yield Begin(xid, _POSTGRES_EPOCH + timedelta(microseconds=micros))
            case "C":
                yield Commit(_COMMIT.unpack_from(data)[2])
            case "R":
                oid, relation = _relation(_Reader(data))
                relations[oid] = relation
            case "I" | "U" | "D":
                yield _row_change(data, relations)
            case "T":
                yield from _truncated(_Reader(data), relations)
            case other:
                if data[0] not in _IGNORED:
                    raise Unreadable(f"a message of kind {other!r}")


def _relation(reader: _Reader) -> tuple[int, _Relation]:
    oid, schema, table = reader.take("I"), reader.text() or "pg_catalog", reader.text()
    reader.take("B")  # the replica identity
    columns = []
    for _ in range(reader.take("H")):
        reader.take("B")  # whether it is part of the key
        columns.append(reader.text())
        reader.take("I")  # type
        reader.take("i")  # and its modifier
    return oid, _Relation(schema, table, tuple(columns))


def _row_change(data: bytes, relations: Mapping[int, _Relation]) -> RowChange:
    reader = _Reader(data)
    schema, table, columns = relations[reader.take("I")]
    operation: Operation = "insert" if data[:1] == b"I" else "update" if data[:1] == b"U" else "delete"
    old: dict[str, str | None] = {}
    mark = reader.mark()
    is_old_whole = mark == "O"
    if mark in "KO":
        old = reader.values(columns, key_only=not is_old_whole)
        mark = reader.mark() if operation == "update" else ""
    new = reader.values(columns) if mark == "N" else {}
    return RowChange(schema, table, operation, new, old, is_old_whole)


def _truncated(reader: _Reader, relations: Mapping[int, _Relation]) -> Iterator[RowChange]:
    count = reader.take("I")
    reader.take("B")  # CASCADE, RESTART IDENTITY
    for _ in range(count):
        schema, table, _columns = relations[reader.take("I")]
        yield RowChange(schema, table, "truncate", {}, {})
