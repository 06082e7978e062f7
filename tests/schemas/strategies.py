"""Hypothesis strategies for typed events, derived from their schemas."""

import json
from typing import Any

from hypothesis import strategies as st

from schemas import events
from schemas.store import load_ids, schema_text

CLASSES: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        events.ModelChanged,
        events.WebhookRequested,
        events.TaskReady,
        events.TaskScheduled,
        events.TaskEvent,
        events.ControlState,
        events.Signal,
        events.DeadLetter,
    )
}

_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "string": st.text(max_size=40),
    "bytes": st.binary(max_size=40),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
}


def schema_of(cls: type[Any]) -> dict[str, Any]:
    """The newest schema of an event class, as written."""
    found: dict[str, Any] = {}
    for versioned in load_ids().values():
        schema = json.loads(schema_text(versioned))
        if schema["name"] == cls.__name__:
            found = schema
    return found


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.one_of(*(_of_type(branch) for branch in kind))
    if isinstance(kind, str):
        return _PRIMITIVES[kind]
    if kind["type"] == "array":
        return st.lists(_of_type(kind["items"]), max_size=4)
    if kind["type"] == "map":
        return st.dictionaries(st.text(max_size=10), _of_type(kind["values"]), max_size=4)
    if kind["type"] == "record":
        fields = {field["name"]: _of_type(field["type"]) for field in kind["fields"]}
        return st.builds(events.RecordHeader, **fields)
    return _of_type(kind["type"])


def of_class(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Any event of one class."""
    return st.builds(cls, **{field["name"]: _of_type(field["type"]) for field in schema_of(cls)["fields"]})


any_event = st.one_of(*(of_class(cls) for cls in CLASSES.values()))
