"""Round trips, frames and refusals of the codec."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given

from schemas.codec import decode, decode_as, encode, use_ids
from schemas.errors import Undecodable
from schemas.events import DeadLetter, Event, Signal, TaskReady
from schemas.limits import MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES
from schemas.store import latest_version, load_ids, schema_text
from tests.schemas.samples import READY, SAMPLES
from tests.schemas.strategies import any_event

SIGNAL = Signal(kind="heartbeat", sender="a", value="{}", sent_at=1)


@pytest.fixture
def shipped_ids() -> Iterator[None]:
    yield
    use_ids(load_ids())


def _code(data: bytes) -> str:
    with pytest.raises(Undecodable) as caught:
        decode(data)
    return caught.value.code


@given(any_event)
def test_round_trip(event: Event) -> None:
    assert decode(encode(event)) == event


@pytest.mark.parametrize("name", list(SAMPLES))
def test_frame_is_confluents(name: str) -> None:
    data = encode(SAMPLES[name])
    number = next(number for number, versioned in load_ids().items() if versioned == f"{name}.v{latest_version(name)}")
    assert data[:5] == b"\x00" + number.to_bytes(4, "big")


def test_body_is_plain_avro_of_the_schema_as_written() -> None:
    schema = parse_schema(json.loads(schema_text("signal.v1")))
    read: Any = schemaless_reader(io.BytesIO(encode(SIGNAL)[5:]), schema, None)
    assert read["sender"] == "a"
    assert read["sent_at"].isoformat() == "1970-01-01T00:00:00.000001+00:00"


def test_wrong_frames() -> None:
    good = encode(SIGNAL)
    for data in (b"", b"\x00", good[:4], b"\x01" + good[1:], b'{"kind": "json"}'):
        assert _code(data) == "undecodable"


def test_unknown_schema_id() -> None:
    assert _code(b"\x00\x00\x00\x27\x0f" + encode(SIGNAL)[5:]) == "unknown_schema"


def test_left_over_bytes() -> None:
    assert _code(encode(SIGNAL) + b"\x00") == "left_over"


def test_every_cut_is_undecodable() -> None:
    good = encode(READY)
    for size in range(len(good)):
        assert _code(good[:size]) in ("undecodable", "unknown_schema")


def test_a_broken_field_is_named() -> None:
    good = encode(SAMPLES["model_changed"])
    payload = good.index(b'{"')
    with pytest.raises(Undecodable, match=r"no ModelChanged: payload \(field 7 of 11, from byte \d+ on\)"):
        decode(good[: payload + 3])
    with pytest.raises(Undecodable, match=r"payload \(field 7 of 11"):
        decode(good[:payload] + b"\xff" + good[payload + 1 :])
    with pytest.raises(Undecodable, match="last field is source"):
        decode(good + b"more")


def test_the_size_is_judged_before_anything_else() -> None:
    assert _code(b"\xff" * (MAX_DEAD_LETTER_BYTES + 1)) == "too_large"
    largest = MAX_RECORD_BYTES - len(encode(SIGNAL)) - 2
    fits = encode(Signal(kind="heartbeat", sender="a", value="x" * largest, sent_at=1))
    assert type(decode(fits)) is Signal
    too_large = encode(Signal(kind="heartbeat", sender="a", value="x" * (MAX_RECORD_BYTES + 1), sent_at=1))
    assert _code(too_large) == "too_large"


def test_a_dead_letter_has_room_for_a_whole_record() -> None:
    letter = DeadLetter(
        topic="t",
        partition=0,
        offset=0,
        group="g",
        reason="undecodable",
        error="e",
        failed_at=1,
        value=b"x" * MAX_RECORD_BYTES,
    )
    assert decode(encode(letter)) == letter


@pytest.mark.parametrize("length", [2**31, 2**62, -1, -(2**40)])
def test_a_length_that_lies_allocates_nothing(length: int) -> None:
    zigzag = (length << 1) ^ (length >> 63)
    varint = bytearray()
    while zigzag > 0x7F:
        varint.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    varint.append(zigzag)
    assert _code(encode(SIGNAL)[:5] + bytes(varint) + b"abc") == "undecodable"


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_an_int_has_32_bits_both_ways(value: int) -> None:
    with pytest.raises(ValueError, match=r"priority is .*32 bits"):
        encode(_ready(priority=value))
    data = encode(_ready(priority=2**31 - 1))
    wide = data.replace(b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10")
    assert wide != data
    assert _code(wide) == "out_of_range"


@pytest.mark.parametrize("change", [{"payload": None}, {"run": "1"}, {"options": {"a": 1}}, {"payload": "\ud800"}])
def test_what_does_not_fit_is_named_when_written(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="TaskReady does not fit its schema"):
        encode(_ready(**change))


def test_decode_as_refuses_another_type() -> None:
    assert decode_as(Signal, encode(SIGNAL)) == SIGNAL
    with pytest.raises(Undecodable, match="a Signal where a TaskReady belongs") as caught:
        decode_as(TaskReady, encode(SIGNAL))
    assert caught.value.code == "wrong_type"


@pytest.mark.usefixtures("shipped_ids")
def test_ids_of_a_registry_replace_the_shipped_ones() -> None:
    shipped = encode(SIGNAL)
    use_ids({number + 1000: versioned for number, versioned in load_ids().items()})
    assert encode(SIGNAL)[1:5] == (1007).to_bytes(4, "big")
    assert decode(encode(SIGNAL)) == SIGNAL
    assert _code(shipped) == "unknown_schema"


@pytest.mark.usefixtures("shipped_ids")
def test_ids_that_leave_an_event_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no schema id for .*Signal"):
        use_ids({number: versioned for number, versioned in load_ids().items() if versioned != "signal.v1"})
    assert decode(encode(SIGNAL)) == SIGNAL


def _ready(**changes: Any) -> TaskReady:
    fields: dict[str, Any] = {name: getattr(READY, name) for name in TaskReady.__slots__}
    return TaskReady(**{**fields, **changes})
