"""Typed events to bytes and back: Confluent wire format version 0 (a zero byte, a 4-byte schema id, the Avro body).

The shipped ids stand in ``ids.json``, append-only. Where an external registry gives other ids, ``use_ids`` replaces
the numbers once at start; the schemas stay ours.

There are two codecs in one: a compiled one for records in plain form, which nearly all are, and fastavro, which decides
about everything else (see ``schemas.compiled``).
"""

import io
import struct
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from fastavro import schemaless_reader, schemaless_writer

from schemas import events
from schemas.compiled import GIVEN_UP, Decoder, Encoder, compile_decoder, compile_encoder
from schemas.diagnosis import broken_field
from schemas.errors import Undecodable
from schemas.events import DeadLetter, Event, RecordHeader
from schemas.limits import MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES
from schemas.store import latest_version, load_ids, load_schema, record_name

EventT = TypeVar("EventT", bound=Event)

_MIN_INT: Final = -(2**31)
_MAX_INT: Final = 2**31 - 1
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


# What fastavro raises for bytes that are no such record: too short, a union branch that does not exist, text that is no
# UTF-8, a length beyond what an index can be. Established by fuzzing, see tests/schemas/test_codec_fuzz.py.
_BROKEN_BODY: Final = (EOFError, IndexError, ValueError, OverflowError)


class _Reader(NamedTuple):
    """How records of one schema id are read."""

    cls: type[Any]
    writer: dict[str, Any]
    reader: dict[str, Any] | None
    int_fields: tuple[str, ...]
    max_bytes: int
    decode: Decoder | None


class _Writer(NamedTuple):
    """How events of one class are written."""

    header: bytes
    schema: dict[str, Any]
    fields: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    int_fields: tuple[str, ...]
    encode: Encoder | None


def _int_fields(schema: dict[str, Any]) -> tuple[str, ...]:
    return tuple(field["name"] for field in schema["fields"] if field["type"] in ("int", ["null", "int"]))


class _Tables:
    """What encode and decode look up by class and by schema id."""

    def __init__(self, ids: Mapping[int, str]) -> None:
        self.writers: dict[type[Any], _Writer] = {}
        self.readers: dict[int, _Reader] = {}
        self.framed: dict[bytes, _Reader] = {}
        for number, versioned in ids.items():
            name = record_name(versioned)
            cls = _CLASSES[name]
            writer = load_schema(versioned)
            latest = load_schema(f"{name}.v{latest_version(name)}")
            reader = None if latest is writer else latest
            max_bytes = MAX_DEAD_LETTER_BYTES if cls is DeadLetter else MAX_RECORD_BYTES
            ints = _int_fields(latest)
            decoder = compile_decoder(cls, writer, latest)
            self.readers[number] = _Reader(cls, writer, reader, ints, max_bytes, decoder)
            self.framed[_HEADER.pack(0, number)] = self.readers[number]
            if reader is None:
                fields = tuple(field["name"] for field in writer["fields"])
                header, encoder = _HEADER.pack(0, number), compile_encoder(writer)
                self.writers[cls] = _Writer(header, writer, fields, attrgetter(*fields), ints, encoder)
        missing = [cls.__name__ for cls in _CLASSES.values() if cls not in self.writers]
        if missing:
            raise ValueError(f"no schema id for the latest version of {', '.join(missing)}; every event needs one")


_tables = _Tables(load_ids())


def use_ids(ids: Mapping[int, str]) -> None:
    """Use a registry's ids, by number: ``{17: "task_ready.v1", ...}``. Call once, before the first record.

    Raises ``ValueError`` where an event has no id for the latest version of its schema.
    """
    global _tables
    _tables = _Tables(ids)


def frame(cls: type[Any]) -> bytes:
    """The five bytes before the body of a record of this class: the zero byte and the schema's id."""
    return _tables.writers[cls].header


def encode(event: Event) -> bytes:
    """The event in wire format. Raises ``ValueError`` naming the record where a field does not fit its schema."""
    writer = _tables.writers[type(event)]
    if writer.encode is None:
        return _encode_generally(writer, event)
    try:
        return writer.header + writer.encode(event)
    except GIVEN_UP:  # of another form, or wrong: fastavro knows
        return _encode_generally(writer, event)


def _encode_generally(writer: _Writer, event: Event) -> bytes:
    values = dict(zip(writer.fields, writer.values(event), strict=True))
    if type(event) is DeadLetter:
        values["headers"] = [{"name": each.name, "value": each.value} for each in event.headers]
    out = io.BytesIO()
    out.write(writer.header)
    try:
        for name in writer.int_fields:
            value = values[name]
            if value is not None and not _MIN_INT <= value <= _MAX_INT:
                raise ValueError(f"{name} is {value}, an int has 32 bits")
        schemaless_writer(out, writer.schema, values)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"{type(event).__name__} does not fit its schema: {error}") from error
    return out.getvalue()


def decode(data: bytes) -> Event:
    """The event in ``data``.

    Raises ``Undecodable`` for a wrong frame, an unknown schema id, a broken body, an ``int`` beyond 32 bits, left-over
    bytes, or a record larger than ``schemas.limits`` allows. Strings and arrays cannot be longer than the record.
    """
    entry = _tables.framed.get(data[:5])
    if entry is None or len(data) > entry.max_bytes:
        raise _refusal(data)
    if entry.decode is None:
        return _decode_generally(entry, data)
    try:
        event: Event = entry.decode(data)
    except GIVEN_UP:  # of another form, or broken: fastavro knows
        return _decode_generally(entry, data)
    return event


def _decode_generally(entry: _Reader, data: bytes) -> Event:
    cls, body = entry.cls, io.BytesIO(data)
    body.seek(5)
    try:
        record: Any = schemaless_reader(body, entry.writer, entry.reader)
    except _BROKEN_BODY as error:
        field = broken_field(data, _HEADER.size, entry.writer, _BROKEN_BODY)
        raise Undecodable(f"the body is no {cls.__name__}: {field + ': ' if field else ''}{error!r}") from error
    left_over = len(data) - body.tell()
    if left_over:
        last = entry.writer["fields"][-1]["name"]
        raise Undecodable(
            f"{left_over} bytes are left over after the {cls.__name__}, whose last field is {last}", code="left_over"
        )
    # fastavro reads and writes an int as a long: other programs and the tables behind would break on it.
    for name in entry.int_fields:
        value = record[name]
        if value is not None and not _MIN_INT <= value <= _MAX_INT:
            raise Undecodable(f"{cls.__name__}.{name} is {value}, an int has 32 bits", code="out_of_range")
    if cls is DeadLetter:
        record["headers"] = [RecordHeader(**header) for header in record["headers"]]
    event: Event = cls(**record)
    return event


def _refusal(data: bytes) -> Undecodable:
    """Why a record is not even begun."""
    size = len(data)
    if size > MAX_DEAD_LETTER_BYTES:
        return _too_large(size, MAX_DEAD_LETTER_BYTES)
    if size < 5 or data[0] != 0:
        return Undecodable("not in Confluent wire format: it must begin with a zero byte and a 4-byte schema id")
    number = int.from_bytes(data[1:5], "big")
    entry = _tables.readers.get(number)
    if entry is None:
        return Undecodable(f"schema id {number} is unknown; known are {sorted(_tables.readers)}", code="unknown_schema")
    return _too_large(size, entry.max_bytes)


def _too_large(size: int, limit: int) -> Undecodable:
    return Undecodable(f"the record has {size} bytes; at most {limit} are read", code="too_large")


def decode_as(cls: type[EventT], data: bytes) -> EventT:
    """As ``decode``, and raises ``Undecodable`` where the record is of another type."""
    entry = _tables.framed.get(data[:5])
    if entry is not None and entry.cls is cls and entry.decode is not None and len(data) <= entry.max_bytes:
        try:
            plain: EventT = entry.decode(data)
        except GIVEN_UP:
            pass
        else:
            return plain
    event = decode(data)
    if type(event) is not cls:
        raise Undecodable(f"a {type(event).__name__} where a {cls.__name__} belongs", code="wrong_type")
    return event
