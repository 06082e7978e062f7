"""What compiled decoders and encoders give is what fastavro gives; where they cannot, they give up."""

import io
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.compiled import GIVEN_UP, Decoder, Encoder, compile_decoder, compile_encoder
from schemas.events import Event, Signal, TaskEvent
from schemas.store import latest_version, load_ids, load_schema, record_name
from tests.schemas.samples import SAMPLES
from tests.schemas.strategies import CLASSES, any_event, of_class

_FRAME = bytes(5)
_INT = range(-(2**31), 2**31)
_VERSIONS = sorted(load_ids().values())
# Numbers that are padded, too long, too large for an int, or no branch of a union.
_ODD = (
    b"\x01",
    b"\x04",
    b"\x80\x00",
    b"\x82\x00",
    b"\x82\x80\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xfe\xff\xff\xff\x1f",
    b"\xff" * 7 + b"\x7f",
    b"\xff" * 8 + b"\x7f",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 8 + b"\x00",
    b"\x80" * 9 + b"\x01",
)
_LARGE = 2**62  # the long with which decoders begin to give up


def _class(versioned: str) -> Any:
    return next(cls for name, cls in CLASSES.items() if name == load_schema(versioned)["name"].rsplit(".")[-1])


def _latest(versioned: str) -> Any:
    name = record_name(versioned)
    return load_schema(f"{name}.v{latest_version(name)}")


@cache
def _compiled(versioned: str) -> tuple[Decoder, Encoder]:
    writer = load_schema(versioned)
    decode, encode = compile_decoder(_class(versioned), writer, _latest(versioned)), compile_encoder(writer)
    assert decode is not None
    assert encode is not None
    return decode, encode


def _values(event: Any) -> Any:
    if is_dataclass(event):
        return {each.name: _values(getattr(event, each.name)) for each in fields(event)}
    return [_values(each) for each in event] if isinstance(event, list) else event


def _written(schema: Any, values: Any) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, schema, values)
    return out.getvalue()


def _outcome(call: Any, *arguments: Any) -> Any:
    """What it gives, as text so that a NaN equals itself; ``None`` where it gives up."""
    try:
        return repr(call(*arguments))
    except (*GIVEN_UP, EOFError):
        return None


def _read(writer: Any, latest: Any, cls: Any, body: bytes) -> Any:
    """What fastavro reads from a whole body, judged as the codec does."""
    source = io.BytesIO(body)
    record = schemaless_reader(source, writer, None if latest is writer else latest)
    if source.tell() != len(body):
        raise ValueError("left over")
    for each in latest["fields"]:
        value = record[each["name"]]
        if each["type"] in ("int", ["null", "int"]) and value is not None and value not in _INT:
            raise ValueError("out of range")
    return cls(**record)


@pytest.mark.parametrize("versioned", [each for each in _VERSIONS if not each.startswith("dead_letter")])
@given(st.data())
@settings(max_examples=100)
def test_every_version_as_fastavro_does(versioned: str, data: st.DataObject) -> None:
    writer, latest, cls = load_schema(versioned), _latest(versioned), _class(versioned)
    decode, encode = _compiled(versioned)
    event = data.draw(of_class(cls), "event")
    values = _values(event)
    body = _written(writer, {each["name"]: values[each["name"]] for each in writer["fields"]})
    assert encode(event) == body
    large = any(type(value) is int and abs(value) >= _LARGE for value in values.values())
    assert _outcome(decode, _FRAME + body) in (_outcome(_read, writer, latest, cls, body), None if large else ...)

    start = data.draw(st.integers(0, len(body)), "start")
    end = data.draw(st.integers(start, min(len(body), start + 9)), "end")
    damaged = body[:start] + data.draw(st.binary(max_size=12) | st.sampled_from(_ODD), "damage") + body[end:]
    given_event = _outcome(decode, _FRAME + damaged)
    assert given_event in (None, _outcome(_read, writer, latest, cls, damaged))


@pytest.mark.parametrize("versioned", [each for each in _VERSIONS if not each.startswith("dead_letter")])
def test_an_odd_number_anywhere(versioned: str) -> None:
    writer, latest, cls = load_schema(versioned), _latest(versioned), _class(versioned)
    decode = compile_decoder(cls, writer, latest)
    values = _values(SAMPLES[record_name(versioned)])
    body = _written(writer, {each["name"]: values[each["name"]] for each in writer["fields"]})
    for start in range(len(body)):
        for number in _ODD:
            damaged = body[:start] + number + body[start + 1 :]
            given_event = _outcome(decode, _FRAME + damaged)
            assert given_event in (None, _outcome(_read, writer, latest, cls, damaged))


_ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=3),
    st.just("\ud800"),
    st.binary(max_size=3),
    st.lists(st.text(max_size=3) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.none(), max_size=3),
)


@given(any_event, st.data())
@settings(max_examples=500)
def test_a_value_of_another_type_is_written_as_fastavro_does_or_not_at_all(event: Event, data: st.DataObject) -> None:
    schema = next(load_schema(each) for each in reversed(_VERSIONS) if _class(each) is type(event))
    encode = compile_encoder(schema)
    name = data.draw(st.sampled_from([each.name for each in fields(event)]), "field")
    setattr(event, name, data.draw(_ODD_VALUES, "value"))
    if encode is not None:
        assert _outcome(encode, event) in (None, _outcome(_written, schema, _values(event)))


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 63).map(lambda bits: 1 << bits >> 1))
@settings(max_examples=1000)
def test_longs_of_every_size(number: int) -> None:
    schema = load_schema("signal.v1")
    decode, encode = compile_decoder(Signal, schema, schema), compile_encoder(schema)
    assert decode is not None
    assert encode is not None
    for sent_at in (number, -number, number - 1, ~number):
        if -(2**63) <= sent_at < 2**63:
            signal = Signal(kind="k", sender="s", value="v", sent_at=sent_at)
            body = encode(signal)
            assert body == _written(schema, _values(signal))
            assert _outcome(decode, _FRAME + body) in (repr(signal), None if abs(sent_at) >= _LARGE else ...)


def _with(schema: Any, **changes: Any) -> Any:
    """The schema with the types of some fields changed, added (with a default) or, where ``None``, left out."""
    kept = [each for each in schema["fields"] if each["name"] not in changes]
    new = [{"name": name, **change} for name, change in changes.items() if change is not None]
    return {**schema, "fields": kept + new}


def test_fields_of_other_versions_are_dropped_and_filled_in() -> None:
    latest = load_schema("signal.v1")
    writer = _with(latest, urgency={"type": "int"}, expires_at=None)
    decode = compile_decoder(Signal, writer, latest)
    assert decode is not None
    values = {"kind": "k", "sender": "s", "value": "v", "sent_at": 5, "urgency": 300}
    assert decode(_FRAME + _written(writer, values)) == Signal(kind="k", sender="s", value="v", sent_at=5)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ({"sent_at": {"type": "int"}}, {}),
        (
            {"value": {"type": {"type": "array", "items": "long"}}},
            {"value": {"type": {"type": "array", "items": "long"}}},
        ),
        ({}, {"note": {"type": "bytes", "default": "\u00ff"}}),
    ],
    ids=["promoted", "of an unknown type", "with bytes for a default"],
)
def test_what_is_not_plain_is_left_to_the_general_codec(writer: Any, reader: Any) -> None:
    schema = load_schema("signal.v1")
    assert compile_decoder(Signal, _with(schema, **writer), _with(schema, **reader)) is None


def test_fields_that_are_absent_together_or_nearly() -> None:
    schema = load_schema("task_event.v2")
    decode, encode = _compiled("task_event.v2")
    sample = SAMPLES["task_event"]
    assert isinstance(sample, TaskEvent)
    optional = [each["name"] for each in schema["fields"] if isinstance(each["type"], list)]
    nothing: dict[str, Any] = dict.fromkeys(optional)
    for name in optional:
        value: dict[str, Any] = {name: getattr(sample, name)}
        absent: dict[str, Any] = {name: None}
        for event in (replace(sample, **nothing | value), replace(sample, **absent)):
            assert decode(_FRAME + encode(event)) == event


def test_texts_and_instants_that_were_forgotten_are_read_again() -> None:
    decode, encode = _compiled("signal.v1")
    start = 1_800_000_000_000_000
    # Above what is remembered of each, and the first ones again.
    for number in (*range(20_000), 0, 1):
        signal = Signal(kind=f"kind {number}", sender="s", value="v", sent_at=start + number * 8192)
        assert decode(_FRAME + encode(signal)) == signal
