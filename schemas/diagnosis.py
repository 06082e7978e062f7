"""Where reading a broken record fails: whoever wrote it, in whatever language, has to know which field."""

import io
from collections.abc import Mapping
from typing import Any

from fastavro import schemaless_reader


def broken_field(data: bytes, start: int, writer: Mapping[str, Any], broken: tuple[type[Exception], ...]) -> str:
    """The first field that cannot be read, its number, and the byte of the record at which it begins.

    ``start`` is where the body begins; ``broken`` is what reading raises for bytes that are no such value. Empty where
    every field can be read.
    """
    body = io.BytesIO(data)
    body.seek(start)
    fields = writer["fields"]
    for number, each in enumerate(fields, start=1):
        begin = body.tell()
        try:
            schemaless_reader(body, each["type"], None)
        except broken:
            return f"{each['name']} (field {number} of {len(fields)}, from byte {begin} on)"
    return ""
