"""Bytes that nobody could read, shown as far as they can be."""

from schemas.codec import encode
from schemas.store import load_ids
from streams.cli.bytes_text import hex_dump, read_bytes
from tests.streams.engine.workload import task_ready

IDS = load_ids()
WHOLE = encode(task_ready("event-1", tenant_id="7"))


def test_a_whole_record_is_read_to_its_end() -> None:
    reading = read_bytes(WHOLE, IDS)
    assert reading.form.startswith("task_ready.v")
    assert (reading.fields["event_id"], reading.fields["tenant_id"]) == ("event-1", "7")
    assert (reading.read_bytes, reading.error) == (len(WHOLE), None)


def test_a_broken_record_is_read_up_to_where_it_breaks() -> None:
    cut = WHOLE[: WHOLE.index(b"webhook/order") + 4]
    reading = read_bytes(cut, IDS)
    assert reading.fields["tenant_id"] == "7"
    assert "endpoint" not in reading.fields
    assert reading.error is not None
    assert reading.error.startswith("field endpoint")
    # The dump then begins with the length of the text that is too short.
    assert cut[reading.read_bytes + 1 :] == b"webh"


def test_what_is_left_over_is_told() -> None:
    reading = read_bytes(WHOLE + b"more", IDS)
    assert (reading.error, reading.read_bytes) == ("4 bytes are left over", len(WHOLE))


def test_other_bytes_are_named_by_what_they_look_like() -> None:
    assert read_bytes(b"\0\0\0\x99\x99abc", IDS).error == "no schema here has that id"
    assert read_bytes(b'{"id": 7}', IDS).fields == {"value": {"id": 7}}
    assert read_bytes(b"hello", IDS).form == "text"
    assert read_bytes(b"\xff\xfe\xfd", IDS).form == "bytes"
    assert read_bytes(b"", IDS).form == "text"


def test_a_hex_dump_shows_offset_bytes_and_text_and_says_what_it_leaves_out() -> None:
    lines = list(hex_dump(b"0123456789abcdef\x1b[31m" + bytes(600), begin=0, most=32))
    assert lines[0] == "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef"
    assert lines[1].startswith("00000010  1b 5b 33 31 6d 00")
    assert lines[1].endswith(".[31m...........")
    assert lines[2] == "00000020  and 589 bytes more"
    assert list(hex_dump(b"abc", begin=1)) == ["00000001  62 63" + " " * 44 + "bc"]
