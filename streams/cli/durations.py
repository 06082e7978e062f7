"""Durations as they are typed: 90s, 15m, 2h, 1d."""

import re
from typing import Final

from streams.errors import SetupError

_DURATION: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(text: str) -> int:
    """Seconds of a duration that is longer than none. Raises ``SetupError`` for any other text."""
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise SetupError(f"{text!r} is no duration.", "Give a number with its unit: 90s, 15m, 2h, 1d.")
    return int(found[1]) * _SECONDS[found[2]]
