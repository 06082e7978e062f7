"""Typed events to bytes and back: Confluent wire format version 0 (a zero byte, a 4-byte schema id, the Avro body).

The shipped ids stand in ``ids.json``, append-only. Where an external registry gives other ids, ``use_ids`` replaces
the numbers once at start; the schemas stay ours.
"""

import io
import struct
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastavro import schemaless_reader, schemaless_writer

from schemas import events
from schemas.errors import Undecodable
from schemas.events import Event
from schemas.store import latest_version, load_ids, load_schema, record_name

EventT = TypeVar("EventT", bound=Event)

MAX_RECORD_BYTES: Final = 1024 * 1024
_HEADER: Final = struct.Struct(">bI")
_CLASSES: Final[dict[str, type[Any]]] = {
    "model_changed": events.ModelChanged,
    "webhook_requested": events.WebhookRequested,
    "task_ready": events.TaskReady,
    "task_scheduled": events.TaskScheduled,
    "task_event": events.TaskEvent,
    "control_state": events.ControlState,
    "signal": events.Signal,
    "dead_letter": events.DeadLetter,
}


class _Tables:
    """What encode and decode look up by class and by schema id."""

    def __init__(self, ids: dict[int, str]) -> None:
        self.writers: dict[type[Any], tuple[bytes, dict[str, Any], tuple[str, ...]]] = {}
        self.readers: dict[int, tuple[type[Any], dict[str, Any], dict[str, Any] | None, Callable[..., Any]]] = {}
        for number, versioned in ids.items():
            name = record_name(versioned)
            cls = _CLASSES[name]
            writer = load_schema(versioned)
            latest = f"{name}.v{latest_version(name)}"
            reader = None if versioned == latest else load_schema(latest)
            self.readers[number] = (cls, writer, reader, cls)
            if reader is None:
                fields = tuple(field["name"] for field in writer["fields"])
                self.writers[cls] = (_HEADER.pack(0, number), writer, fields)


_tables = _Tables(load_ids())


def use_ids(ids: dict[int, str]) -> None:
    """Use a registry's ids, by number: ``{17: "task_ready.v1", ...}``. Call once, before the first record."""
    global _tables
    _tables = _Tables(ids)


def encode(event: Event) -> bytes:
    """The event in wire format. Raises ``ValueError`` naming the record where a field does not fit its schema."""
    header, schema, fields = _tables.writers[type(event)]
    out = io.BytesIO()
    out.write(header)
    try:
        schemaless_writer(out, schema, {name: getattr(event, name) for name in fields})
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"{type(event).__name__} does not fit its schema: {error}") from error
    return out.getvalue()


def decode(data: bytes) -> Event:
    """The event in ``data``.

    Raises ``Undecodable`` for a wrong frame, an unknown schema id, a broken body, left-over bytes, or more than
    ``MAX_RECORD_BYTES``.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise Undecodable(f"the record has {len(data)} bytes; at most {MAX_RECORD_BYTES} are read", code="too_large")
    if len(data) < 5 or data[0] != 0:
        raise Undecodable("not in Confluent wire format: it must begin with a zero byte and a 4-byte schema id")
    number = int.from_bytes(data[1:5], "big")
    entry = _tables.readers.get(number)
    if entry is None:
        raise Undecodable(f"schema id {number} is unknown; known are {sorted(_tables.readers)}", code="unknown_schema")
    cls, writer, reader, make = entry
    body = io.BytesIO(data)
    body.seek(5)
    try:
        record = schemaless_reader(body, writer, reader)
        event: Event = make(**record)
    except Exception as error:
        raise Undecodable(f"the body is no {cls.__name__}: {error!r}") from error
    if body.tell() != len(data):
        raise Undecodable(f"{len(data) - body.tell()} bytes are left over after the {cls.__name__}", code="left_over")
    return event


def decode_as(cls: type[EventT], data: bytes) -> EventT:
    """As ``decode``, and raises ``Undecodable`` where the record is of another type."""
    event = decode(data)
    if type(event) is not cls:
        raise Undecodable(f"a {type(event).__name__} where a {cls.__name__} belongs", code="wrong_type")
    return event
