"""The schemas as shipped: ids are only ever appended, files follow the rules that keep decoding bounded."""

import json
from importlib.resources import files
from typing import Any

import pytest

from schemas.store import latest_version, load_ids, load_schema, record_name, schema_text

# Written into logs for ever: never change or remove a line, append the new ones.
PUBLISHED_IDS = {
    1: "model_changed.v1",
    2: "webhook_requested.v1",
    3: "task_ready.v1",
    4: "task_scheduled.v1",
    5: "task_event.v1",
    6: "control_state.v1",
    7: "signal.v1",
    8: "dead_letter.v1",
    9: "task_event.v2",
}


def test_ids_are_append_only() -> None:
    assert load_ids() == PUBLISHED_IDS


def test_ids_and_files_are_the_same_set() -> None:
    shipped = {path.name.removesuffix(".avsc") for path in files("schemas").joinpath("avro").iterdir()}
    assert sorted(load_ids().values()) == sorted(shipped)


def test_versions_of_a_record_are_numbered_from_one_without_gaps() -> None:
    for name in {record_name(versioned) for versioned in load_ids().values()}:
        numbers = [int(each.rsplit(".v")[1]) for each in load_ids().values() if record_name(each) == name]
        assert numbers == list(range(1, latest_version(name) + 1))


def _types(node: Any) -> list[Any]:
    """Every type that a schema holds, itself first."""
    if isinstance(node, list):
        return [found for branch in node for found in _types(branch)]
    if isinstance(node, str):
        return [node]
    inner = [field["type"] for field in node.get("fields", [])]
    inner += [node[key] for key in ("items", "values") if key in node]
    return [node, *(found for each in inner for found in _types(each))]


@pytest.mark.parametrize("versioned", list(load_ids().values()))
def test_no_schema_lets_a_short_record_decode_to_something_huge(versioned: str) -> None:
    schema = json.loads(schema_text(versioned))
    known = {"null", "boolean", "int", "long", "float", "double", "bytes", "string", "array", "map", "record"}
    for each in _types(schema):
        if isinstance(each, str):
            assert each in known, f"{each} refers to another type: a schema must not be recursive"
        elif each["type"] == "array":
            assert _least_bytes(each["items"]) > 0, "an array's items must take at least a byte"


def _least_bytes(kind: Any) -> int:
    """Least number of bytes that a value of this type takes."""
    if isinstance(kind, list):
        return 1
    if isinstance(kind, dict):
        if kind["type"] == "record":
            return sum(_least_bytes(field["type"]) for field in kind["fields"])
        return 1 if kind["type"] in ("array", "map") else _least_bytes(kind["type"])
    return 0 if kind == "null" else 1


@pytest.mark.parametrize("versioned", list(load_ids().values()))
def test_every_field_is_documented(versioned: str) -> None:
    schema = json.loads(schema_text(versioned))
    assert schema["doc"]
    assert schema["namespace"] == "webhook_streams"
    for field in schema["fields"]:
        assert field.get("doc", "").endswith("."), field["name"]


@pytest.mark.parametrize("versioned", list(load_ids().values()))
def test_optional_fields_default_to_null(versioned: str) -> None:
    for field in json.loads(schema_text(versioned))["fields"]:
        if isinstance(field["type"], list):
            assert field["type"][0] == "null"
            assert field["default"] is None


def test_times_are_left_as_integers_by_the_codec() -> None:
    assert "logicalType" in schema_text("task_ready.v1")
    assert "logicalType" not in str(load_schema("task_ready.v1"))
