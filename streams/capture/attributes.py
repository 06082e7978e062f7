"""What of a mapped row are columns, what they were before a flush, and how they get to be known at all."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Column
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import get_history


class Columns(NamedTuple):
    """Names of a mapper's attributes that are columns.

    All of them, those that are loaded without being asked for, and those of the primary key, in its order.
    """

    all: tuple[str, ...]
    names: frozenset[str]
    loaded: frozenset[str]
    key: tuple[str, ...]


_UNKNOWN: Final = object()
"""Value of a container before somebody changed it in place."""

_known: Final[dict[Mapper[Any], Columns]] = {}


def columns(mapper: Mapper[Any]) -> Columns:
    """The columns of a mapper that is configured."""
    found = _known.get(mapper)
    if found is None:
        mapped = [each for each in mapper.column_attrs if isinstance(each.columns[0], Column)]
        names = tuple(each.key for each in mapped)
        key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        loaded = frozenset(each.key for each in mapped if not each.deferred)
        found = _known[mapper] = Columns(names, frozenset(names), loaded, key)
    return found


def makes_values(mapper: Mapper[Any]) -> bool:
    """Whether the database itself works out any value of a mapper's rows."""
    made = (
        column.server_default is not None or column.server_onupdate is not None
        for table in mapper.tables
        for column in table.columns
    )
    return any(made)


def load_whole(mapper: Mapper[Any], state: Any) -> None:
    """Load what a row's payload needs and nobody has loaded: expired attributes, and those of a derived table."""
    if state.key is None:
        # A row that was just inserted has NULL in what it lacks, unless the database worked it out.
        missing = state.expired_attributes and state.expired_attributes & columns(mapper).names
    else:
        missing = columns(mapper).loaded - state.dict.keys()
    if missing:
        target = state.obj()
        for key in missing:
            getattr(target, key)


def values_before(mapper: Mapper[Any], state: Any) -> dict[str, Any]:
    """What the database still has of a row that is about to be updated."""
    values = {key: state.dict[key] for key in columns(mapper).all if key in state.dict}
    for key in state.committed_state.keys() & values.keys():
        added, _, deleted = get_history(state.obj(), key)
        if added:
            values[key] = deleted[0] if deleted else _UNKNOWN
    return values


def changed_values(before: Mapping[str, Any], state: Any) -> dict[str, Any]:
    """Those of the values before, of a row that was loaded whole, that really are other ones now."""
    now = state.dict
    return {
        key: None if value is _UNKNOWN else value
        for key, value in before.items()
        if value is not now.get(key) and value != now.get(key)
    }
