"""Whatever the bytes are: decode returns an event or raises Undecodable, and nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.errors import Undecodable
from schemas.events import Event
from schemas.store import load_ids
from tests.schemas.strategies import any_event

_NUMBERS = st.sampled_from(sorted(load_ids()))
# Lengths and counts that lie: the largest, the most negative, endless and overlong ones.
_LIES = st.sampled_from(
    [
        b"\xff" * 9 + b"\x01",
        b"\xfe" * 9 + b"\x01",
        b"\x80" * 20,
        b"\xfe\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\x0f",
        b"\x01",
    ]
)


def _decodes_or_is_undecodable(data: bytes) -> None:
    try:
        event = decode(data)
    except Undecodable:
        return
    assert decode(encode(event)) == event or event != event  # a NaN equals nothing


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    _decodes_or_is_undecodable(data)


@given(_NUMBERS, st.binary(max_size=300))
@settings(max_examples=500)
def test_any_body(number: int, body: bytes) -> None:
    _decodes_or_is_undecodable(b"\x00" + number.to_bytes(4, "big") + body)


@given(any_event, st.data())
@settings(max_examples=500)
def test_damaged_records(event: Event, data: st.DataObject) -> None:
    record = encode(event)
    start = data.draw(st.integers(0, len(record)), "start")
    end = data.draw(st.integers(start, min(len(record), start + 8)), "end")
    damage = data.draw(st.binary(max_size=12) | _LIES, "damage")
    _decodes_or_is_undecodable(record[:start] + damage + record[end:])
