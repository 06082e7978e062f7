"""FULL_TRANSITIVE over all shipped versions, and the checker itself against fastavro's own resolution."""

import io
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from schemas.compatibility import incompatibilities, unreadable


def test_every_version_reads_every_other() -> None:
    assert incompatibilities() == []


def _record(*fields: dict[str, Any], name: str = "Thing") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "id", "type": "string"}, *fields]}


def _field(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "extra", "type": kind, **more}


_REFUSALS = (SchemaResolutionError,)
_NESTED = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}
_NESTED_MORE = {**_NESTED, "fields": [*_NESTED["fields"], {"name": "b", "type": "int"}]}


def _array(items: str) -> dict[str, Any]:
    return _record(_field({"type": "array", "items": items}))


def _map(values: str) -> dict[str, Any]:
    return _record(_field({"type": "map", "values": values}))


def _enum(*symbols: str) -> dict[str, Any]:
    return _record(_field({"type": "enum", "name": "E", "symbols": list(symbols)}))


def _fixed(size: int) -> dict[str, Any]:
    return _record(_field({"type": "fixed", "name": "F", "size": size}))


def _extra(kind: Any) -> dict[str, Any]:
    return _record(_field(kind))


# (what, writer, reader, a value of the writer, whether the reader can read it)
CASES: list[tuple[str, Any, Any, dict[str, Any], bool]] = [
    ("same", _record(), _record(), {}, True),
    ("added with default", _record(), _record(_field("int", default=1)), {}, True),
    ("added without default", _record(), _extra("int"), {}, False),
    ("removed", _extra("int"), _record(), {"extra": 1}, True),
    ("int to long", _extra("int"), _extra("long"), {"extra": 1}, True),
    ("long to int", _extra("long"), _extra("int"), {"extra": 1}, False),
    ("string to int", _extra("string"), _extra("int"), {"extra": "a"}, False),
    ("string to bytes", _extra("string"), _extra("bytes"), {"extra": "a"}, True),
    ("made optional", _extra("string"), _extra(["null", "string"]), {"extra": "a"}, True),
    ("made required", _extra(["null", "string"]), _extra("string"), {"extra": None}, False),
    ("branch removed", _extra(["null", "int", "string"]), _extra(["null", "int"]), {"extra": "a"}, False),
    ("branch added", _extra(["null", "int"]), _extra(["null", "int", "string"]), {"extra": 1}, True),
    ("array items", _array("string"), _array("int"), {"extra": ["a"]}, False),
    ("map values", _map("int"), _map("long"), {"extra": {"a": 1}}, True),
    ("inner record grew", _extra(_NESTED), _extra(_NESTED_MORE), {"extra": {"a": 1}}, False),
    ("enum grew", _enum("A", "B"), _enum("A"), {"extra": "B"}, False),
    ("fixed size", _fixed(2), _fixed(3), {"extra": b"ab"}, False),
]


@pytest.mark.parametrize(("what", "writer", "reader", "value", "readable"), CASES, ids=[case[0] for case in CASES])
def test_the_checker_agrees_with_a_reader(what: str, writer: Any, reader: Any, value: Any, readable: bool) -> None:
    problems = unreadable(writer, reader)
    assert (problems == []) is readable, what
    written = io.BytesIO()
    schemaless_writer(written, parse_schema(writer, named_schemas={}), {"id": "1", **value})
    written.seek(0)
    schemas = parse_schema(writer, named_schemas={}), parse_schema(reader, named_schemas={})
    if readable:
        read: Any = schemaless_reader(written, *schemas)
        assert read["id"] == "1"
    else:
        with pytest.raises(_REFUSALS):
            schemaless_reader(written, *schemas)


def test_a_record_of_another_name_is_another_record() -> None:
    assert unreadable(_record(), _record(name="Other")) == ["record: Thing is not named Other"]


def test_problems_carry_their_path() -> None:
    assert unreadable(_array("string"), _array("int")) == ["record.extra[]: string is not readable as int"]
