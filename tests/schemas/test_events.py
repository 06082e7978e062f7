"""Typed events and their schemas are the same thing twice."""

import dataclasses
import types
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import events
from schemas.events import TaskId, from_datetime, to_datetime
from tests.schemas.strategies import CLASSES, schema_of

_PYTHON: dict[str, type[Any]] = {"string": str, "bytes": bytes, "int": int, "long": int, "double": float}


def _avro_of(hint: Any, kind: Any) -> bool:
    """Whether a type hint says the same as an Avro type."""
    if isinstance(kind, dict) and "logicalType" in kind:
        kind = kind["type"]
    if isinstance(kind, list):
        return (
            get_origin(hint) is types.UnionType
            and get_args(hint)[1] is type(None)
            and _avro_of(get_args(hint)[0], kind[1])
        )
    if isinstance(kind, str):
        return hint is _PYTHON[kind]
    if kind["type"] == "array":
        return get_origin(hint) is list and _avro_of(get_args(hint)[0], kind["items"])
    if kind["type"] == "map":
        return get_origin(hint) is dict and get_args(hint)[0] is str and _avro_of(get_args(hint)[1], kind["values"])
    return hint is events.RecordHeader and [each.name for each in dataclasses.fields(hint)] == [
        field["name"] for field in kind["fields"]
    ]


@pytest.mark.parametrize("cls", list(CLASSES.values()))
def test_class_equals_schema(cls: type[Any]) -> None:
    schema = schema_of(cls)
    assert cls.__doc__ == schema["doc"]
    hints = get_type_hints(cls)
    by_name = {field["name"]: field for field in schema["fields"]}
    assert [each.name for each in dataclasses.fields(cls)] == list(by_name)
    for each in dataclasses.fields(cls):
        field = by_name[each.name]
        assert _avro_of(hints[each.name], field["type"]), f"{cls.__name__}.{each.name}"
        has_default = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        assert has_default == ("default" in field), f"{cls.__name__}.{each.name}"
        if each.default_factory is not dataclasses.MISSING:
            assert each.default_factory() == field["default"]
        elif has_default:
            assert each.default == field["default"]


def test_every_class_is_part_of_event() -> None:
    assert set(get_args(events.Event)) == set(CLASSES.values())


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_round_trip(moment: datetime) -> None:
    assert to_datetime(from_datetime(moment)) == moment


def test_time_zones_are_converted() -> None:
    there = datetime(2026, 1, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert to_datetime(from_datetime(there)) == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001


def test_identity_of_a_task_as_text() -> None:
    assert str(TaskId("e", 1, 2, 3)) == "e|1|2|3"
