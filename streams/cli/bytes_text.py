"""Bytes that nobody could read, shown as far as they can be: what decodes of them, and the rest as a hex dump."""

import io
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from fastavro import schemaless_reader

from schemas.store import load_schema

_FRAME_BYTES: Final = 5
_NO_FRAME: Final = "not in Confluent wire format"
_LINE_BYTES: Final = 16
_PRINTABLE: Final = frozenset((string.ascii_letters + string.digits + string.punctuation + " ").encode())


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood of some bytes.

    ``form`` says what they look like, ``fields`` are those that could be read in order, ``read_bytes`` is where the
    first begins that could not, ``error`` why.
    """

    form: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    read_bytes: int = 0
    error: str | None = None


def read_bytes(data: bytes, ids: Mapping[int, str]) -> Reading:
    """Read bytes field by field, by the schema that their frame names; ``ids`` are the schemas' (``load_ids``).

    What has no frame of ours is read as JSON or as text, where it is that.
    """
    if len(data) < _FRAME_BYTES or data[0] != 0:
        return _read_text(data)
    number = int.from_bytes(data[1:_FRAME_BYTES], "big")
    name = ids.get(number)
    if name is None:
        return Reading(f"schema id {number}", read_bytes=_FRAME_BYTES, error="no schema here has that id")
    body = io.BytesIO(data[_FRAME_BYTES:])
    fields: dict[str, Any] = {}
    read = _FRAME_BYTES
    for each in load_schema(name)["fields"]:
        try:
            fields[each["name"]] = schemaless_reader(body, each["type"], None)
        except (EOFError, IndexError, ValueError, OverflowError) as error:
            return Reading(
                f"{name}, schema id {number}", fields, read, f"field {each['name']}: {str(error) or 'too short'}"
            )
        read = _FRAME_BYTES + body.tell()
    rest = len(data) - read
    return Reading(f"{name}, schema id {number}", fields, read, f"{rest} bytes are left over" if rest else None)


def hex_dump(data: bytes, begin: int = 0, most: int = 512) -> Iterator[str]:
    """Lines of 16 bytes from ``begin`` on: offset, hexadecimal, and what of it is printable; ``most`` bytes."""
    end = min(len(data), begin + most)
    for at in range(begin, end, _LINE_BYTES):
        line = data[at : min(at + _LINE_BYTES, end)]
        text = "".join(chr(each) if each in _PRINTABLE else "." for each in line)
        yield f"{at:08x}  {line.hex(' '):<{3 * _LINE_BYTES - 1}}  {text}"
    if end < len(data):
        yield f"{end:08x}  and {len(data) - end} bytes more"


def _read_text(data: bytes) -> Reading:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Reading("bytes", error=f"{_NO_FRAME}, and no text")
    try:
        return Reading("JSON", {"value": orjson.loads(text)}, len(data), _NO_FRAME)
    except ValueError:
        return Reading("text", {"value": text}, len(data), _NO_FRAME)
