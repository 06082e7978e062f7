"""Parts of an upsert that every table shares, and that both databases understand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from sqlalchemy import JSON, ColumnElement, Connection, Select, String, bindparam, case, cast, func, select, tuple_

Columns: TypeAlias = Mapping[str, ColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an upsert does with a row that exists: the columns it sets, and the condition under which it does."""

    values: dict[str, ColumnElement[Any]]
    where: ColumnElement[bool] | None = None


def earliest(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """The smaller value, and the other one where one is null. ``least`` and ``min`` disagree about nulls."""
    return case((one.is_(None), other), (other.is_(None), one), (other < one, other), else_=one)


def earliest_value(one: int | None, other: int | None) -> int | None:
    """The same in Python."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def choose(condition: ColumnElement[bool], names: Iterable[str], old: Columns, new: Columns) -> Columns:
    """The new value of each column where the condition holds, else the old one."""
    return {name: case((condition, new[name]), else_=old[name]) for name in names}


def outranks(rank: Iterable[str], time: str, old: Columns, new: Columns) -> ColumnElement[bool]:
    """Whether the new row is of higher rank, or of the same rank and earlier."""
    names = tuple(rank)
    # The times are swapped, because among equals the smaller one wins.
    ours = tuple_(*(new[name] for name in names), old[time])
    theirs = tuple_(*(old[name] for name in names), new[time])
    return ours > theirs


def take_turns(connection: Connection, namespace: int, ids: Iterable[str]) -> None:
    """Wait for every other writer that holds one of these ids; it lets go of them at the end of its transaction."""
    if connection.dialect.name != "postgresql":
        return
    touched = listed(connection, ids).subquery("touched")
    # In one order everywhere, lest they wait for each other.
    locks = select(func.hashtext(touched.c.id).label("lock")).distinct().order_by("lock").subquery()
    connection.execute(select(func.pg_advisory_xact_lock(namespace, locks.c.lock)))


def listed(connection: Connection, ids: Iterable[str]) -> Select[tuple[str]]:
    """Some ids as a query of one column ``id``: one parameter for all of them, a tenth of the work of one for each."""
    text = bindparam("ids", orjson.dumps(sorted(ids)).decode(), String, unique=True)
    if connection.dialect.name == "sqlite":
        return select(func.json_each(text).table_valued("value").c.value.label("id"))
    return select(func.json_array_elements_text(cast(text, JSON)).label("id"))
