"""Bounds on what is read and kept. They are checked before the work that they bound, never after it."""

import re
from typing import Final

MAX_RECORD_BYTES: Final = 1024 * 1024
"""Largest record of every topic but the dead letters'."""

MAX_DEAD_LETTER_BYTES: Final = MAX_RECORD_BYTES + 64 * 1024
"""A dead letter holds a whole record and says what is wrong with it (R3)."""

MAX_PAYLOAD_BYTES: Final = 256 * 1024
"""Largest JSON payload of one event, in UTF-8."""

MAX_STEP_RESULT_BYTES: Final = 48 * 1024
"""Largest JSON result of one step; a longer one fails its step (R3)."""

MAX_JSON_DEPTH: Final = 32
"""Deepest nesting of objects and arrays in a payload or a configuration."""

# A string takes in everything to the end of the text where its closing quote is missing, so that a scan is linear
# whatever the text is.
_STRINGS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OTHER_THAN_BRACKETS: Final = re.compile(r"[^\[\]{}]+")


def check_json_depth(text: str, limit: int = MAX_JSON_DEPTH) -> None:
    """Raise ``ValueError`` where JSON text nests objects and arrays deeper than ``limit``. It need not be valid JSON.

    Call it before a parser, whose own stack it protects.
    """
    if text.count("{") + text.count("[") <= limit:
        return
    depth = 0
    for bracket in _OTHER_THAN_BRACKETS.sub("", _STRINGS.sub("", text)):
        if bracket in "{[":
            depth += 1
            if depth > limit:
                raise ValueError(f"the JSON nests more than {limit} levels deep; flatten it")
        else:
            depth -= 1
